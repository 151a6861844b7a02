"""Effects on a logarithmic scale, where figures between 1e-8 and 1 can be told apart."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

LEAST_DECADES = 3
"""A scale is at least so long, so that two nearly equal figures do not look far apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogScale:
    """A scale over whole decades.

    Attributes:
        low: Exponent of ten at its start.
        high: At its end; larger than `low`.
    """

    low: int
    high: int

    def share(self, value: float) -> float:
        """Return where `value` lies, from 0.0 (also for 0 itself) to 1.0 (also for what is not finite)."""
        if not math.isfinite(value):
            return 1.0
        if value <= 0.0:
            return 0.0
        return min(max((math.log10(value) - self.low) / (self.high - self.low), 0.0), 1.0)

    def decades(self, most: int) -> list[int]:
        """Return at most `most` exponents, evenly spread over the scale from its end downwards."""
        step = max(1, math.ceil((self.high - self.low + 1) / most))
        return list(range(self.high, self.low - 1, -step))[::-1]


def log_scale(values: Iterable[float]) -> LogScale:
    """Return the scale that holds every positive finite value, with some room below the smallest."""
    exponents = [math.log10(value) for value in values if math.isfinite(value) and value > 0.0]
    if not exponents:
        return LogScale(low=-8, high=0)
    low, high = math.floor(min(exponents) - 0.5), math.ceil(max(exponents))
    return LogScale(low=min(low, high - LEAST_DECADES), high=high)
