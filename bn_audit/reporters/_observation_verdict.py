"""What a run of the model adds to the verdict on its source."""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.reporters._observation import ran_sizes, sizes_text, verdict_word
from bn_audit.reporters._words import plural
from bn_audit.styled import clean
from bn_audit.subject.observation import CANNOT_RUN, INCONCLUSIVE, INDEPENDENT, RNG, STATEFUL, Observation


def gaps(observation: Observation, *, is_silent: bool, is_failed: bool) -> Iterator[str]:
    """Yield what keeps an audit with this run from saying clean.

    Args:
        is_silent: There are no findings, which would say what the run showed.
        is_failed: The failed run is told already.
    """
    word = verdict_word(observation)
    if not is_run(observation):
        yield from () if is_failed else ("the model could not be run",)
    elif observation.verdict == INCONCLUSIVE:
        yield "the run was inconclusive"
    elif observation.verdict not in (INDEPENDENT, CANNOT_RUN) and is_silent:
        yield f"in the run, an answer {word}"
    if is_silent and RNG in observation.flags:
        yield "answers change with the random seed"
    if is_silent and STATEFUL in observation.flags:
        yield "answers change with what ran before"
    failed = [size.batch_size for size in observation.sizes if size.status != "ok"]
    if failed and is_run(observation):
        yield f"failed at batch size {sizes_text(failed)}"
    if observation.fixed_batch is not None:
        yield f"takes no batch size but {observation.fixed_batch}"
    unjudged = sum(output.batch_axis is None for output in observation.outputs)
    if unjudged and observation.verdict != INCONCLUSIVE:
        yield f"{unjudged} of {plural(len(observation.outputs), 'output')} not judged"
    if observation.is_untrained:
        yield "untrained, so the run certifies nothing"


def ran_text(observation: Observation) -> str:
    """Return what an independent model was run with, which is all that is known to be clean."""
    sizes = ran_sizes(observation)
    quick = "" if observation.tier == "full" else f", {clean(observation.tier)} tier"
    if RNG in observation.flags:
        return f"run with a fixed seed{quick}"
    return f"run at batch size {sizes_text(sizes)}{quick}" if sizes else f"run{quick}"


def is_run(observation: Observation) -> bool:
    """Return whether the model ran at all."""
    return observation.verdict != CANNOT_RUN or bool(ran_sizes(observation))
