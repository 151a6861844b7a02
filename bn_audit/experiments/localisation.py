"""Where samples meet: on a dependence with the exchange that showed it, else in search of mixing that stays hidden."""

from __future__ import annotations

from collections.abc import Mapping

from bn_audit.errors import RunError
from bn_audit.experiments._drawing import draw
from bn_audit.experiments._results import Sizes, Swaps, Where, depends_on_content, figures_of, found, reference_of
from bn_audit.running import Bench, Experiment, Figures
from bn_audit.subject.run import Batch

PASSES = 3
"""The batch, other companions, another probe."""

FEW = 3
"""Rows among which samples that meet are looked for where no answer shows it."""


def measure(bench: Bench, figures: Mapping[str, Figures]) -> Figures:
    """Return the places at which samples meet."""
    swaps = found(figures, Swaps)
    if swaps is None or (bench.job.tier == "quick" and not depends_on_content(figures)):
        return figures_of(Where(localisation=None))
    try:
        if swaps.worst is not None and depends_on_content(figures):
            base, index = reference_of(figures).batch, swaps.worst.index
            return figures_of(_followed(bench, base, swaps.worst.batch, swaps.worst.probe, index))
        return figures_of(_hidden(bench, figures, swaps))
    except RunError as error:
        return figures_of(Where(localisation=None, why_not=str(error)))


def _followed(bench: Bench, base: Batch, companions: Batch, probe: Batch, index: int) -> Where:
    bench.say("where samples meet", PASSES)
    return Where(localisation=bench.session.localise(base, companions, probe, index, seed=bench.job.seed))


def _hidden(bench: Bench, figures: Mapping[str, Figures], swaps: Swaps) -> Where:
    """Return where samples meet without effect: a few rows show it as well as many, for less."""
    reference = reference_of(figures)
    if swaps.spare is None:
        return Where(localisation=None)
    if reference.batch_size <= FEW or bench.session.fixed_batch is not None or _failed(figures, FEW):
        return _followed(bench, reference.batch, swaps.spare.batch, swaps.spare.probe, swaps.spare.index)
    rows, middle = range(FEW), FEW // 2
    base = bench.plan.rows(reference.batch, rows)
    other = draw(bench, FEW, 1)
    return _followed(
        bench, base, bench.plan.with_row(other, middle, base), bench.plan.with_row(base, middle, other), middle
    )


def _failed(figures: Mapping[str, Figures], size: int) -> bool:
    sizes = found(figures, Sizes)
    return sizes is not None and any(run.batch_size <= size and run.outputs is None for run in sizes.runs)


EXPERIMENT = Experiment(name="localisation", summary="where samples meet", order=100, measure=measure)
