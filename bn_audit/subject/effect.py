"""How large a difference between answers is, in words."""

from __future__ import annotations

import math

MANY_TIMES = 10
"""From here on an effect is told as a multiple: a percentage of thousands is hard to read."""

LEAST_PERCENTAGE = 1e-3
"""Below this an effect is told as it is: a percentage far below one is hard to read."""


def share_text(effect: float) -> str:
    """Return an effect as a part of an output: ``13%``, ``1.3e-06`` where that is too little, ``30 times the size``."""
    if math.isfinite(effect) and effect >= MANY_TIMES:
        return f"{effect:.3g} times the size"
    return f"{100 * effect:.3g}%" if LEAST_PERCENTAGE <= effect < MANY_TIMES else f"{effect:.3g}"
