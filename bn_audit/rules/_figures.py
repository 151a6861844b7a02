"""Numbers as they stand in messages and in evidence."""

from __future__ import annotations

import math
from collections.abc import Iterable

from bn_audit.subject.finding import EvidenceValue

LISTED = 10
"""How many examples a finding's evidence lists; the locations name every layer."""


def readable(number: float) -> str:
    """Return a number in at most three significant digits."""
    return f"{number:.3g}"


def figure(number: float) -> EvidenceValue:
    """Return a number as JSON can hold it."""
    if math.isfinite(number):
        return number
    return "nan" if math.isnan(number) else "inf" if number > 0 else "-inf"


def distinct(numbers: Iterable[float]) -> str:
    """Return the different numbers in full, such as ``0.9, 0.99``; at most four of them."""
    ordered = sorted(set(numbers))
    return ", ".join(repr(number) for number in ordered[:4]) + (" ..." if len(ordered) > 4 else "")
