"""One row kept, all others replaced, at the same batch size: on the processor the row's bits must not move.

The probe stands first, last and in the middle, since a row may depend on its predecessors or on its rank only. The new
companions are two fresh draws, one ten times as large and one a tenth: a maximum, a rank or a capacity changes hands
only when scales do. Token inputs have no scale. The quick tier exchanges once at each end, unless rows differ between
batch sizes by more than floating point is likely to: then it goes on like the full one.

Source: the measured protocol; with one draw at both ends it finds all of 336 batch norms left in training mode.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bn_audit.experiments._exchanging import LARGE, Draw, ends_and_middle, exchanged
from bn_audit.experiments._results import Sizes, figures_of, found, reference_of
from bn_audit.experiments._sizing import size_effect
from bn_audit.running import Bench, Experiment, Figures

FRESH = Draw(name="a fresh draw", number=1)
DRAWS = (
    FRESH,
    Draw(name="another fresh draw", number=2),
    Draw(name="a draw ten times as large", number=3, scale=10.0),
    Draw(name="a draw a tenth as large", number=4, scale=0.1),
)


def measure(bench: Bench, figures: Mapping[str, Figures]) -> Figures:
    """Return how far new companions move the row that was kept."""
    size = reference_of(figures).batch_size
    if bench.job.tier == "quick" and size_effect(figures) <= LARGE:
        return figures_of(exchanged(bench, figures, (FRESH,), tuple(dict.fromkeys((0, size - 1)))))
    return figures_of(exchanged(bench, figures, _draws(bench), ends_and_middle(size)))


def _draws(bench: Bench) -> Iterator[Draw]:
    yield from (drawn for drawn in DRAWS if bench.plan.has_floats or drawn.scale == 1.0)


def _has_companions(figures: Mapping[str, Figures]) -> bool:
    sizes = found(figures, Sizes)
    return reference_of(figures).batch_size > 1 and sizes is not None and sizes.is_attributable


EXPERIMENT = Experiment(
    name="companions",
    summary="one row kept, all others replaced",
    order=30,
    measure=measure,
    concerns=_has_companions,
)
