"""Lists of sizes that a graph computes at each run, as far as they follow from the shapes: the targets of reshapes.

Exporters write a reshape by a size of the input as Shape, Gather, Unsqueeze and Concat. A list here has an entry for
each element, in row-major order; a scalar has one.

Source: onnx/docs/Operators.md of ONNX 1.23.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from bn_audit.formats._onnx.calls import Call
from bn_audit.formats._onnx.evaluation import integers
from bn_audit.formats._onnx.scopes import Scope
from bn_audit.formats._onnx.sizes import Shape
from bn_audit.subject.graph import Dim

SizeList: TypeAlias = tuple[Dim, ...] | None

MAX_LENGTH = 64


def size_list(scope: Scope, value: str) -> SizeList:
    """Return the sizes that a value is a list of; None where it is none, or they are not known."""
    owner = scope.owner(value) if value else None
    if owner is None:
        return None
    known = owner.sizes.get(value)
    return known if known is not None else integers(owner, value)


def follow_sizes(scope: Scope, call: Call, shapes: Sequence[Shape]) -> None:
    """Keep the list of sizes that a call makes, where it makes one."""
    rule = _RULES.get(call.node.op)
    if rule is None or call.node.domain or len(call.node.outputs) != 1:
        return
    try:
        found = rule(scope, call, shapes)
    except (IndexError, TypeError, ValueError, ArithmeticError):
        # A node of the wrong arity or with impossible arguments makes no list.
        return
    if found is not None and len(found) <= MAX_LENGTH:
        scope.sizes[call.node.outputs[0]] = found


def _shape(_scope: Scope, call: Call, shapes: Sequence[Shape]) -> SizeList:
    shape = shapes[0]
    start, end = call.node.attributes.get("start", 0), call.node.attributes.get("end")
    if shape is None or not isinstance(start, int) or not isinstance(end, int | None):
        return None
    return shape[start:end]


def _same(scope: Scope, call: Call, _shapes: Sequence[Shape]) -> SizeList:
    return size_list(scope, call.node.inputs[0])


def _gathered(scope: Scope, call: Call, _shapes: Sequence[Shape]) -> SizeList:
    data, indices = size_list(scope, call.node.inputs[0]), integers(scope, call.node.inputs[1])
    if data is None or indices is None or call.node.attributes.get("axis", 0) != 0:
        return None
    return tuple(data[index] for index in indices)


def _sliced(scope: Scope, call: Call, _shapes: Sequence[Shape]) -> SizeList:
    data = size_list(scope, call.node.inputs[0])
    given = [integers(scope, name) if name else None for name in call.node.inputs[1:]]
    starts, ends = call.node.attributes.get("starts"), call.node.attributes.get("ends")
    bounds = given[:2] if len(given) >= 2 else [starts, ends]
    first, last = bounds
    if data is None or not isinstance(first, tuple) or not isinstance(last, tuple) or len(given) > 3:
        return None
    start, end = first[0], last[0]
    return data[start:end] if isinstance(start, int) and isinstance(end, int) else None


def _joined(scope: Scope, call: Call, _shapes: Sequence[Shape]) -> SizeList:
    found: list[Dim] = []
    for name in call.node.inputs:
        part = size_list(scope, name)
        if part is None:
            return None
        found.extend(part)
    return tuple(found)


def _arithmetic(scope: Scope, call: Call, _shapes: Sequence[Shape]) -> SizeList:
    first, second = (size_list(scope, name) for name in call.node.inputs)
    if first is None or second is None or len(first) != 1 or len(second) != 1:
        return None
    return (_combined(call.node.op, first[0], second[0]),)


def _combined(op: str, first: Dim, second: Dim) -> Dim:
    if isinstance(first, int) and isinstance(second, int):
        if op == "Add":
            return first + second
        if op == "Sub":
            return first - second if first >= second else None
        return first * second if op == "Mul" else first // second if second > 0 else None
    if op == "Mul" and 1 in (first, second):
        return second if first == 1 else first
    return first if op == "Div" and second == 1 else None


def _product(scope: Scope, call: Call, _shapes: Sequence[Shape]) -> SizeList:
    data = size_list(scope, call.node.inputs[0])
    if data is None or len(call.node.inputs) > 1 or call.node.attributes.get("axes") not in (None, (0,)):
        return None
    total: Dim = 1
    for size in data:
        total = _combined("Mul", total, size)
    return (total,)


_RULES: dict[str, Callable[[Scope, Call, Sequence[Shape]], SizeList]] = {
    **dict.fromkeys(("Identity", "Cast", "Unsqueeze", "Squeeze", "Reshape", "Flatten"), _same),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    "Shape": _shape,
    "Gather": _gathered,
    "Slice": _sliced,
    "Concat": _joined,
    "ReduceProd": _product,
}
