"""What names alone suggest about models and layers."""

from __future__ import annotations

import re

_AVERAGED_ROUTE = re.compile(
    r"(?:^|[._])(?:\w*ema|swa|averaged?|avg|teacher|shadow|momentum_encoder)(?:$|[._])", re.IGNORECASE
)
_AVERAGED_TYPE = re.compile(r"(?:\.AveragedModel|ModelEma\w*|ModelEMA|\.EMA)$")


def is_averaged(route: str, type_name: str | None) -> bool:
    """Return whether a model is marked as an average of another one: EMA, SWA, a mean teacher."""
    return bool(_AVERAGED_ROUTE.search(route) or (type_name and _AVERAGED_TYPE.search(type_name)))


def may_feed(outputs: object, features: object) -> bool:
    """Return whether a layer of `outputs` channels, just before a norm of `features` channels, is likely its input."""
    return isinstance(outputs, int) and outputs == features
