"""All ONNX operators that are followed."""

from __future__ import annotations

from bn_audit.flow.call import Call, Result
from bn_audit.flow.cells import UndecidableError
from bn_audit.flow.following import Dialect
from bn_audit.flow.onnx_operators import (
    arithmetic,
    elementwise,
    indexing,
    linear,
    norms,
    rearranging,
    reducing,
    shaping,
)

STANDARD = ("", "ai.onnx")


def constant(call: Call) -> Result:
    """A tensor as an attribute; numbers as attributes are computed with the other constants."""
    value = call.tensor("value")
    if value is None:
        raise UndecidableError("a constant of a kind that is not followed")
    return value


_HANDLERS = {
    **elementwise.TABLE,
    **shaping.TABLE,
    **reducing.TABLE,
    **linear.TABLE,
    **norms.TABLE,
    **indexing.TABLE,
    "Constant": constant,
}

_EVALUATORS = {**arithmetic.TABLE, **rearranging.TABLE}

ONNX = Dialect(
    handlers={(domain, name): handler for domain in STANDARD for name, handler in _HANDLERS.items()},
    evaluators={(domain, name): function for domain in STANDARD for name, function in _EVALUATORS.items()},
)
