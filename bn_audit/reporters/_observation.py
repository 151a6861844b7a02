"""What a run of the model comes to in words, for every report that people read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from bn_audit.reporters._fold import fold_line
from bn_audit.reporters._words import plural
from bn_audit.styled import clean
from bn_audit.subject.effect import share_text
from bn_audit.subject.observation import (
    CANNOT_RUN,
    CONTENT,
    INCONCLUSIVE,
    INDEPENDENT,
    MUTATES_STATE,
    POSITION,
    RNG,
    SIZE,
    STATEFUL,
    Observation,
    Place,
    SizeResult,
)
from bn_audit.subject.report import Report

LONGEST_NAME = 200
"""Characters shown of one name out of a file."""

MOST_PLACES = 4
"""Layers or tensors named in one sentence; the JSON report has all."""

VERDICT_WORDS = {
    INDEPENDENT: "independent",
    CONTENT: "depends on companions",
    POSITION: "depends on position",
    SIZE: "depends on batch size",
    CANNOT_RUN: "could not be run",
    INCONCLUSIVE: "inconclusive",
}

SENTENCES = {
    CONTENT: "a sample's answer changes with the other samples in its batch",
    POSITION: "a sample's answer changes with its row in the batch",
    SIZE: "a sample's answer changes with the number of rows, whatever is in them",
}


def verdict_word(observation: Observation) -> str:
    """Return the verdict in words."""
    if observation.verdict == CANNOT_RUN and ran_sizes(observation):
        return "fails at some batch sizes"
    return VERDICT_WORDS.get(observation.verdict, clean(observation.verdict))


def is_doubtful(observation: Observation) -> bool:
    """Return whether a good verdict comes with something that a reader must know."""
    is_partial = observation.fixed_batch is not None or len(ran_sizes(observation)) < len(observation.sizes)
    return bool(observation.flags) or observation.is_untrained or is_partial


SEEDED = "with a fixed seed, no sample's answer changed with its companions; position and batch size cannot be judged"


def is_told_elsewhere(report: Report) -> bool:
    """Return whether a run that gave no figure at all is already reported as failed, with the reason."""
    observation = report.observation
    is_failed = any(failure.stage == "run" for failure in report.failed)
    return is_failed and observation is not None and observation.verdict == CANNOT_RUN and not observation.sizes


def headline(observation: Observation) -> str:
    """Return what the run showed, after the verdict's word; ``""`` where there is nothing to add."""
    if observation.verdict == INDEPENDENT:
        return _unchanged(observation)
    sentence = SENTENCES.get(observation.verdict, "")
    if sentence and observation.effect is not None:
        sentence += f", by up to {share_text(observation.effect)} of its largest output"
    return sentence


def _unchanged(observation: Observation) -> str:
    """Return what was changed around a sample without moving its answer, and what was not."""
    if RNG in observation.flags:
        return SEEDED
    tried = ["its companions"]
    tried += ["its position"] if observation.tier == "full" else []
    tried += ["the number of rows"] if compared_sizes(observation) else []
    missing = [] if observation.tier == "full" else ["position"]
    missing += [] if compared_sizes(observation) else ["batch size"]
    listed = tried[0] if len(tried) == 1 else f"{', '.join(tried[:-1])} or {tried[-1]}"
    rest = f"; {' and '.join(missing)} not tested" if missing else ""
    return f"no sample's answer changed with {listed}{rest}"


def evidence(observation: Observation) -> Iterator[tuple[str, str]]:
    """Yield (label, sentence) for what the verdict rests on and what else the run showed."""
    if observation.why:
        yield "because", clean(observation.why)
    yield from _where(observation)
    yield from _changes(observation)
    yield from _batch_sizes(observation)
    yield from _comparisons(observation)
    yield from _norms(observation)


def _where(observation: Observation) -> Iterator[tuple[str, str]]:
    if observation.first_divergence is not None:
        yield "first layer", place_text(observation.first_divergence)
    if observation.combined_at is not None:
        yield "combined at", place_text(observation.combined_at)
    if observation.restored_by:
        count = len(observation.restored_by)
        layers = f"{count} norm layers: " if count > MOST_PLACES else ""
        yield "restored by", f"evaluation mode in {layers}{_names(observation.restored_by)}"
    if observation.latent:
        yield "latent", f"samples meet without effect on an output today, at {_places(observation.latent)}"
    if observation.quantised_dynamically:
        yield "quantisation", "one activation range is chosen for the whole batch (dynamic quantisation)"


def _changes(observation: Observation) -> Iterator[tuple[str, str]]:
    """Yield what changes from run to run."""
    if RNG in observation.flags:
        yield "randomness", f"the answers change with the random seed{_by(observation.seed_effect)}"
    if observation.repeat_effect:
        yield "not repeatable", f"the same batch with the same seed gives other answers{_by(observation.repeat_effect)}"
    if observation.ungated_dropout:
        yield "dropout", f"drawn in evaluation mode, at {_places(observation.ungated_dropout)}"
    if STATEFUL in observation.flags:
        yield "state", f"the answers change with what ran before{_by(observation.second_call_effect)}"
    if MUTATES_STATE in observation.flags or observation.buffers_changed:
        changed = f": {_names(observation.buffers_changed)}" if observation.buffers_changed else ""
        yield "changed by a run", f"{plural(len(observation.buffers_changed), 'stored tensor')}{changed}"
    if observation.drifting:
        yield "drift", f"the runtime overwrites {_names(observation.drifting)}: identical calls drift apart"


def _batch_sizes(observation: Observation) -> Iterator[tuple[str, str]]:
    if observation.fails_at_one:
        yield "batch size 1", f"fails where larger batches run: {clean(observation.fails_at_one)}"
    if observation.lost_at:
        errors = {size.error for size in observation.sizes if size.status == "ok" and size.error}
        why = f": {clean(min(errors))}" if errors else ""
        yield "batch axis", f"an output loses it at batch size {sizes_text(observation.lost_at)}{why}"
    if observation.fixed_batch is not None:
        yield (
            "fixed batch",
            f"the model takes {plural(observation.fixed_batch, 'sample')} at a time and no other number",
        )


def _comparisons(observation: Observation) -> Iterator[tuple[str, str]]:
    if observation.mode_gap is not None:
        yield "mode gap", f"answers in training and evaluation mode differ{_by(observation.mode_gap)}"
    if observation.optimisation_effect:
        yield "optimisation", f"the runtime's optimised form answers differently{_by(observation.optimisation_effect)}"
    if observation.padding_effect:
        yield "padding", f"padding a sample to a larger companion changes its answer{_by(observation.padding_effect)}"
    if observation.rounding_only:
        yield "rounding", f"differences{_by(observation.rounding_only)} are explained by floating point"


def _norms(observation: Observation) -> Iterator[tuple[str, str]]:
    if observation.unregistered_norms:
        counts = ((observation.norm_calls, "call"), (observation.registered_norms, "registered layer"))
        told = ", ".join(plural(number, noun) for number, noun in counts if number is not None)
        yield "norm calls", f"{told or 'some'}; unaccounted for: {_places(observation.unregistered_norms)}"
    if observation.is_untrained:
        yield "not certified", "initial statistics or constant weights can hide a dependence: audit the trained model"


def place_text(place: Place) -> str:
    """Return ``layer1.0.bn1 (BatchNorm2d, aten.native_batch_norm.default)``."""
    path = clean(place.path or place.node or "(root)", LONGEST_NAME)
    node = place.node if place.node and place.path and place.node != place.path else ""
    about = [clean(part, LONGEST_NAME) for part in (class_name(place.type_name), place.op) if part]
    about += [f"node {clean(node, LONGEST_NAME)}"] if node else []
    return f"{path} ({', '.join(about)})" if about else path


def class_name(type_name: str) -> str:
    """Return the name of a class without the module that defines it."""
    return type_name.rpartition(".")[2] or type_name


def _places(places: Sequence[Place]) -> str:
    return _names([place.path or place.node or place.op or "(root)" for place in places])


def _names(names: Iterable[str]) -> str:
    return fold_line([clean(name, LONGEST_NAME) for name in names], MOST_PLACES)


def _by(effect: float | None) -> str:
    return f" by up to {share_text(effect)} of the largest output" if effect is not None else ""


def effect_text(effect: float | None) -> str:
    """Return an effect with three digits; ``-`` where it is not known, ``0`` for equal bits."""
    return "-" if effect is None else f"{effect:.3g}"


def time_text(size: SizeResult) -> str:
    """Return the time for each sample, in milliseconds."""
    if size.seconds is None or not size.batch_size:
        return "-"
    return f"{1000 * size.seconds / size.batch_size:.3g} ms"


def has_class_scores(observation: Observation) -> bool:
    """Return whether any output holds class scores, so that changes of the first class were counted."""
    return any(size.top1_changes is not None for size in observation.sizes)


def ran_sizes(observation: Observation) -> list[int]:
    """Return the batch sizes at which the model ran."""
    return [size.batch_size for size in observation.sizes if size.status == "ok"]


def sizes_text(sizes: Sequence[int]) -> str:
    """Return ``1, 2, 3, 8``, shortened in the middle where there are many."""
    words = [str(size) for size in sizes]
    return ", ".join(words) if len(words) <= 12 else ", ".join([*words[:6], "...", *words[-3:]])


def compared_sizes(observation: Observation) -> list[SizeResult]:
    """Return the batch sizes with a figure: they ran, and are not what the others are compared with."""
    return [
        size for size in observation.sizes if size.max_rel is not None and size.batch_size != observation.reference_size
    ]


def is_noise(observation: Observation, effect: float) -> bool:
    """Return whether floating point explains a difference, so that nothing is to be read into it."""
    if observation.verdict == INDEPENDENT and math.isfinite(effect):
        return True
    explained = (observation.noise_floor, observation.rounding_only)
    return effect == 0 or any(bound is not None and effect <= bound for bound in explained)


def effects(observation: Observation) -> Iterator[float]:
    """Yield every figure that the charts of batch sizes show."""
    yield from (size.max_rel for size in observation.sizes if size.max_rel is not None)
    yield from (value for size in observation.sizes for value in size.samples)
    yield from (value for value in (observation.noise_floor,) if value is not None)
