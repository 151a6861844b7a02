"""The inputs padded with zeros, as a batch with a larger companion would be: does padding change an answer?"""

from __future__ import annotations

from collections.abc import Mapping

from bn_audit.errors import RunError
from bn_audit.experiments._comparing import largest_effect
from bn_audit.experiments._results import Padding, axes_from, figures_of, is_steady, reference_of
from bn_audit.running import Bench, Experiment, Figures
from bn_audit.subject.run import Array, Outputs


def measure(bench: Bench, figures: Mapping[str, Figures]) -> Figures:
    """Return the difference on that part of the outputs which the unpadded inputs have too."""
    reference = reference_of(figures)
    padded = bench.plan.padded(reference.batch)
    if padded is None:
        return figures_of(Padding(effect=None))
    bench.say("inputs padded", 1)
    try:
        outputs = bench.session.run(padded, seed=bench.job.seed).outputs[0]
    except RunError:
        return figures_of(Padding(effect=None))
    return figures_of(Padding(effect=_effect(reference.outputs, outputs, axes_from(figures))))


def _effect(plain: Outputs, padded: Outputs, axes: Mapping[str, int | None]) -> float | None:
    shared = {
        name: _cropped(padded[name], array)
        for name, array in plain.items()
        if name in padded and padded[name].ndim == array.ndim
    }
    return largest_effect({name: plain[name] for name in shared}, shared, axes) if shared else None


def _cropped(padded: Array, plain: Array) -> Array:
    return padded[tuple(slice(0, size) for size in plain.shape)]


EXPERIMENT = Experiment(
    name="padding",
    summary="inputs padded as beside a larger companion",
    order=78,
    measure=measure,
    tiers=("full",),
    concerns=is_steady,
)
