"""Which norm layers, set to evaluation, make the dependence on the companions go away?

All of them at once first; where that helps, the set is halved for as long as one half is enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bn_audit.errors import RunError
from bn_audit.experiments._comparing import largest_effect, row_of
from bn_audit.experiments._results import (
    Counts,
    Restoration,
    Swap,
    Swaps,
    axes_from,
    depends_on_content,
    figures_of,
    found,
    reference_of,
)
from bn_audit.running import Bench, Experiment, Figures


def measure(bench: Bench, figures: Mapping[str, Figures]) -> Figures:
    """Return the smallest set of norm layers found that takes the dependence away."""
    swaps = found(figures, Swaps)
    paths = tuple(bench.session.norm_paths)
    if swaps is None or swaps.worst is None or not paths:
        return figures_of(Restoration())
    suspects = _suspects(figures, paths)
    if _restores(bench, figures, swaps.worst, suspects):
        return figures_of(Restoration(paths=_smallest(bench, figures, swaps.worst, suspects)))
    if set(suspects) != set(paths) and _restores(bench, figures, swaps.worst, paths):
        return figures_of(Restoration(paths=_smallest(bench, figures, swaps.worst, paths)))
    return figures_of(Restoration())


def _suspects(figures: Mapping[str, Figures], paths: Sequence[str]) -> tuple[str, ...]:
    """Return the norm layers that normalised with the batch, where that is known, else all."""
    counts = found(figures, Counts)
    seen = {place.path for place in counts.calls.batch_statistics} if counts and counts.calls else set()
    return tuple(path for path in paths if path in seen) or tuple(paths)


def _smallest(bench: Bench, figures: Mapping[str, Figures], swap: Swap, paths: Sequence[str]) -> tuple[str, ...]:
    while len(paths) > 1:
        middle = len(paths) // 2
        for half in (paths[:middle], paths[middle:]):
            if _restores(bench, figures, swap, half):
                paths = half
                break
        else:
            break
    return tuple(paths)


def _restores(bench: Bench, figures: Mapping[str, Figures], swap: Swap, paths: Sequence[str]) -> bool:
    session = bench.session.in_mode(training=False, paths=tuple(paths))
    if session is None:
        return False
    axes = axes_from(figures)
    bench.say(f"{len(paths)} norm {'layer' if len(paths) == 1 else 'layers'} in evaluation mode", 2)
    try:
        base = session.run(reference_of(figures).batch, seed=bench.job.seed).outputs[0]
        swapped = session.run(swap.batch, seed=bench.job.seed).outputs[0]
    except RunError:
        return False
    return largest_effect(row_of(base, axes, swap.index), row_of(swapped, axes, swap.index), axes) == 0.0


EXPERIMENT = Experiment(
    name="restoration",
    summary="norm layers that, set to evaluation, take the dependence away",
    order=90,
    measure=measure,
    tiers=("full",),
    concerns=depends_on_content,
)
