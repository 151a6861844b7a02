"""How much of two artifacts a comparison reads."""

from __future__ import annotations

from enum import Enum


class ValueScope(Enum):
    """Which tensors a comparison reads."""

    BATCH_NORM = "bn"
    """The tensors of norm layers, and what folds and frozen layers need."""
    ALL = "all"
