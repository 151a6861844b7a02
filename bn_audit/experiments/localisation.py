"""Where samples meet: on a dependence with the exchange that showed it, else in search of mixing that stays hidden."""

from __future__ import annotations

from collections.abc import Mapping

from bn_audit.errors import RunError
from bn_audit.experiments._results import Confirmation, Swaps, Where, figures_of, found, reference_of
from bn_audit.running import Bench, Experiment, Figures

PASSES = 3
"""The batch, other companions, another probe."""


def measure(bench: Bench, figures: Mapping[str, Figures]) -> Figures:
    """Return the places at which samples meet."""
    swaps = found(figures, Swaps)
    swap = None if swaps is None else swaps.worst if _depends(figures) else swaps.spare
    if swap is None or (bench.job.tier == "quick" and not _depends(figures)):
        return figures_of(Where(localisation=None))
    bench.say("where samples meet", PASSES)
    try:
        where = bench.session.localise(
            reference_of(figures).batch, swap.batch, swap.probe, swap.index, seed=bench.job.seed
        )
    except RunError as error:
        return figures_of(Where(localisation=None, why_not=str(error)))
    return figures_of(Where(localisation=where))


def _depends(figures: Mapping[str, Figures]) -> bool:
    confirmation = found(figures, Confirmation)
    return confirmation is not None and confirmation.content is True


EXPERIMENT = Experiment(name="localisation", summary="where samples meet", order=100, measure=measure)
