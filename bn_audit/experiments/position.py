"""One sample in every row: does the answer depend on the row's place?

Rows of one batch may be computed by different code (the last rows of a vectorised loop), so a difference may be
floating point.
"""

from __future__ import annotations

from collections.abc import Mapping

from bn_audit.experiments._comparing import first_repeated, largest_effect
from bn_audit.experiments._results import Position, Swaps, axes_from, figures_of, found, is_random, reference_of
from bn_audit.running import Bench, Experiment, Figures


def measure(bench: Bench, figures: Mapping[str, Figures]) -> Figures:
    """Return how far the rows of a batch of one sample differ from its first row."""
    reference = reference_of(figures)
    axes = axes_from(figures)
    batch = bench.plan.rows(reference.batch, [0] * reference.batch_size)
    bench.say("one sample in every row", 1)
    outputs = bench.session.run(batch, seed=bench.job.seed).outputs[0]
    told = {name: outputs[name] for name, axis in axes.items() if axis is not None}
    return figures_of(
        Position(batch=batch, outputs=told, effect=largest_effect(first_repeated(told, axes), told, axes))
    )


def _concerns(figures: Mapping[str, Figures]) -> bool:
    """Position says nothing where rows draw their own random numbers, nor where the companions matter."""
    swaps = found(figures, Swaps)
    return swaps is not None and swaps.worst is None and not is_random(figures)


EXPERIMENT = Experiment(
    name="position",
    summary="one sample in every row",
    order=40,
    measure=measure,
    tiers=("full",),
    concerns=_concerns,
)
