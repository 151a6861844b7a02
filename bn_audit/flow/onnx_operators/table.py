"""All ONNX operators that are followed."""

from __future__ import annotations

from bn_audit.flow.call import Call, Evaluator, Handler, Result
from bn_audit.flow.cells import UndecidableError
from bn_audit.flow.following import Dialect, Key
from bn_audit.flow.onnx_operators import (
    arithmetic,
    attention,
    contrib,
    control,
    elementwise,
    images,
    indexing,
    linear,
    losses,
    norms,
    quantised,
    rearranging,
    recurrent,
    reducing,
    sequences,
    shaping,
    states,
)

STANDARD = ("", "ai.onnx")
MICROSOFT = "com.microsoft"


def constant(call: Call) -> Result:
    """A tensor as an attribute; numbers as attributes are computed with the other constants."""
    value = call.tensor("value")
    if value is None:
        raise UndecidableError("a constant of a kind that is not followed")
    return value


_HANDLERS: dict[str, Handler] = {
    **elementwise.TABLE,
    **shaping.TABLE,
    **reducing.TABLE,
    **linear.TABLE,
    **norms.TABLE,
    **indexing.TABLE,
    **recurrent.TABLE,
    **quantised.TABLE,
    **attention.TABLE,
    **states.TABLE,
    **control.TABLE,
    **sequences.TABLE,
    **images.TABLE,
    **losses.TABLE,
    "Constant": constant,
}

_MICROSOFT: dict[str, Handler] = {**quantised.MICROSOFT, **attention.MICROSOFT, **contrib.MICROSOFT}

_EVALUATORS: dict[str, Evaluator] = {**arithmetic.TABLE, **rearranging.TABLE, **losses.EVALUATORS}

_ALSO_IN_THE_STANDARD = frozenset({"LayerNormalization", "SimplifiedLayerNormalization"})


def _keyed(domain: str, table: dict[str, Handler]) -> dict[Key, Handler]:
    return {(domain, name): handler for name, handler in table.items()}


ONNX = Dialect(
    handlers={
        **_keyed("", _HANDLERS),
        **_keyed("ai.onnx", _HANDLERS),
        **_keyed(MICROSOFT, {name: _HANDLERS[name] for name in _ALSO_IN_THE_STANDARD}),
        **_keyed(MICROSOFT, _MICROSOFT),
    },
    evaluators={(domain, name): function for domain in STANDARD for name, function in _EVALUATORS.items()},
)
"""The standard operators and those of onnxruntime's own domain."""
