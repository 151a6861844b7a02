"""Where the random draws of a measurement start."""

from __future__ import annotations

from bn_audit.running import Bench
from bn_audit.subject.run import Batch

SEEDS_APART = 97
"""Draws of one measurement; neighbouring seeds of the user share none."""


def draw(bench: Bench, batch_size: int, number: int, scale: float = 1.0) -> Batch:
    """Return the batch with that number among the draws of this measurement; 0 is the reference batch."""
    return bench.plan.draw(batch_size, bench.job.seed * SEEDS_APART + number, scale)
