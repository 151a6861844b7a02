"""Whether a square root is that of a variance, and over which axes."""

from __future__ import annotations

from dataclasses import dataclass

from bn_audit.errors import ArtifactError
from bn_audit.formats._onnx.arguments import stated_axes
from bn_audit.formats._onnx.calls import Call
from bn_audit.formats._onnx.evaluation import constant
from bn_audit.formats._onnx.scopes import Scope

MAX_STEPS = 16
"""Cap on the calls between a square root and the sum beneath it; exporters write some five."""

_COPIES = frozenset(("Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Abs", "Relu", "Clip", "Max"))
_SUMS = frozenset(("ReduceMean", "ReduceSum"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Variance:
    """The variance beneath a square root.

    Attributes:
        value: What it is the variance of.
        axes: Over which axes, negative ones counted from the end.
        eps: Name of the constant that is added to it; ``""`` for none.
        inverse: The root is one over the square root.
    """

    value: str
    axes: tuple[int, ...]
    eps: str = ""
    inverse: bool = False


def variance_of(scope: Scope, root: Call) -> Variance | None:
    """Return the variance of which a call takes the root, or one over it; None where it is anything else."""
    exponent = 0.5 if root.node.op == "Sqrt" else _exponent(scope, root)
    if exponent not in (0.5, -0.5):
        return None
    value, eps = root.node.inputs[0], ""
    made = _made(scope, value)
    if made is not None and made.node.op == "Add" and len(made.node.inputs) == 2:
        fixed = [name for name in made.node.inputs if scope.is_fixed(name)]
        if len(fixed) == 1:
            eps = fixed[0]
            value = next(name for name in made.node.inputs if name != eps)
    found = _spread(scope, value)
    if found is None:
        return None
    return Variance(value=found[0], axes=found[1], eps=eps, inverse=exponent < 0)


def _made(scope: Scope, value: str) -> Call | None:
    """Return the call of ONNX's own operators that makes a value in this scope."""
    call = scope.makers.get(value)
    return call if call is not None and not call.node.domain and call.node.inputs else None


def _exponent(scope: Scope, call: Call) -> float | None:
    tensor = constant(scope, call.node.inputs[1]) if len(call.node.inputs) == 2 else None
    if tensor is None or tensor.numel != 1:
        return None
    try:
        return float(tensor.values()[0])
    except ArtifactError:
        return None


def _summed(scope: Scope, value: str) -> Call | None:
    """Return the sum or mean behind a value, with copies and constant factors left out."""
    for _ in range(MAX_STEPS):
        call = _made(scope, value)
        if call is None or call.node.op in _SUMS or call.node.op in ("ReduceSumSquare", "Sub"):
            return call
        varying = [name for name in call.node.inputs if name and not scope.is_sized(name)]
        if len(varying) != 1 or call.node.op not in (*_COPIES, "Mul", "Div"):
            return None
        value = varying[0]
    return None


def _spread(scope: Scope, value: str) -> tuple[str, tuple[int, ...]] | None:
    """Return (what, axes) where a value is the mean of squared differences from the mean, or of squares minus one."""
    call = _summed(scope, value)
    if call is None:
        return None
    if call.node.op == "Sub" and len(call.node.inputs) == 2:
        first, second = (_summed(scope, name) for name in (call.node.inputs[0], _root(scope, call.node.inputs[1])))
        squared = _root(scope, first.node.inputs[0]) if first is not None else ""
        is_mean = second is not None and second.node.op in _SUMS and second.node.inputs[0] == squared
        return _with_axes(scope, first, squared) if squared and is_mean else None
    inside = call.node.inputs[0]
    difference = inside if call.node.op == "ReduceSumSquare" else _root(scope, inside)
    made = _made(scope, difference)
    if made is None or made.node.op != "Sub" or len(made.node.inputs) != 2:
        return None
    for value, other in (made.node.inputs, made.node.inputs[::-1]):
        mean = _summed(scope, other)
        if mean is not None and mean.node.op in _SUMS and mean.node.inputs[0] == value:
            return _with_axes(scope, call, value)
    return None


def _root(scope: Scope, value: str) -> str:
    """Return what a value is the square of; ``""`` where it is none."""
    call = _made(scope, value)
    if call is None or len(call.node.inputs) != 2:
        return ""
    first, second = call.node.inputs
    if call.node.op == "Mul" and first == second:
        return first
    return first if call.node.op == "Pow" and _exponent(scope, call) == 2 else ""


def _with_axes(scope: Scope, call: Call | None, value: str) -> tuple[str, tuple[int, ...]] | None:
    axes = stated_axes(scope, call) if call is not None else None
    return (value, axes) if axes else None
