"""Arguments of ONNX nodes that are attributes in older operator sets and inputs in newer ones."""

from __future__ import annotations

from bn_audit.formats._onnx.calls import Call
from bn_audit.formats._onnx.evaluation import integers
from bn_audit.formats._onnx.scopes import Scope


def attribute_integers(call: Call, name: str) -> tuple[int, ...] | None:
    """Return an attribute that is a list of integers; None where it is absent or something else."""
    value = call.node.attributes.get(name)
    if not isinstance(value, tuple):
        return None
    return tuple(item for item in value if isinstance(item, int))


def stated_axes(scope: Scope, call: Call, index: int = 1) -> tuple[int, ...] | None:
    """Return the axes of an operator, from its attribute or, in newer operator sets, an input; None where unknown.

    An operator without either has none: ().
    """
    axes = attribute_integers(call, "axes")
    if axes is not None:
        return axes
    value = call.node.inputs[index] if index < len(call.node.inputs) else ""
    return integers(scope, value) if value else ()
