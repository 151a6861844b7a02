"""The same batch again: a second call on the same copy, the same seed on a fresh one, another seed.

The second call comes with the reference run. It draws other random numbers and starts from changed state, so where it
agrees neither matters; in the quick tier the other two runs are made only where it does not.
"""

from __future__ import annotations

from collections.abc import Mapping

from bn_audit.experiments._comparing import agree, largest_effect
from bn_audit.experiments._results import Reference, Repeat, figures_of, reference_of
from bn_audit.running import Bench, Experiment, Figures

ANOTHER_SEED = 1_000_003


def measure(bench: Bench, figures: Mapping[str, Figures]) -> Figures:
    """Return how far repeated runs of the reference batch differ."""
    reference = reference_of(figures)
    second_call = largest_effect(reference.outputs, reference.second)
    if bench.job.tier == "quick" and not second_call and agree(reference.outputs, reference.second):
        return figures_of(Repeat(second_call=second_call))
    same = _again(bench, reference, "the same seed", bench.job.seed)
    other = _again(bench, reference, "another seed", bench.job.seed + ANOTHER_SEED)
    return figures_of(Repeat(second_call=second_call, same_seed=same, other_seed=other))


def _again(bench: Bench, reference: Reference, what: str, seed: int) -> float:
    bench.say(f"repeat with {what}", 1)
    return largest_effect(reference.outputs, bench.session.run(reference.batch, seed=seed).outputs[0])


EXPERIMENT = Experiment(
    name="repeat", summary="the same batch with the same seed, another seed, the same copy", order=10, measure=measure
)
