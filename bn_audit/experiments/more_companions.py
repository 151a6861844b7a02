"""Further exchanges of the companions, where the place of a row matters.

What ranks the samples of a batch and drops some shows in copies of one sample first, since ties are broken by place; an
exchange shows it only where the kept row's rank changes. Among copies of itself a row's rank is its place, so that some
row changes unless those that are kept happen to come first in the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bn_audit.experiments._exchanging import LARGE, exchanged_for_itself
from bn_audit.experiments._results import Position, Swaps, figures_of, found, reference_of
from bn_audit.running import Bench, Experiment, Figures

MOST_ROWS = 16


def measure(bench: Bench, figures: Mapping[str, Figures]) -> Figures:
    """Return all exchanges, the earlier ones included."""
    earlier = found(figures, Swaps)
    last = reference_of(figures).batch_size - 1
    rows = sorted({round(last * step / (MOST_ROWS - 1)) for step in range(MOST_ROWS)})
    swaps = exchanged_for_itself(bench, figures, rows)
    return figures_of(replace(swaps, tried=swaps.tried + (earlier.tried if earlier else 0)))


def _place_matters(figures: Mapping[str, Figures]) -> bool:
    position = found(figures, Position)
    return position is not None and position.effect > LARGE


EXPERIMENT = Experiment(
    name="more-companions",
    summary="further exchanges where the place of a row matters",
    order=45,
    measure=measure,
    tiers=("full",),
    concerns=_place_matters,
)
