"""Deliberate designs that would otherwise look like mistakes."""

from __future__ import annotations

from enum import Enum


class Design(Enum):
    """A deliberate design that a waiver declares."""

    MC_DROPOUT = "mc-dropout"
    """Dropout draws in inference, to sample predictions."""
    BATCH_STATISTICS = "batch-statistics"
    """Norm layers use the current batch on purpose: some GANs, meta-learning, test-time adaptation."""


DESIGN_CODES = {
    Design.MC_DROPOUT: ("BN311", "BN501", "BN502", "BN504"),
    Design.BATCH_STATISTICS: (
        *("BN101", "BN102", "BN103", "BN301", "BN302", "BN304"),
        *("BN308", "BN309", "BN310", "BN401", "BN402", "BN407"),
    ),
}
"""The findings that say no more than that the artifact is so designed."""
