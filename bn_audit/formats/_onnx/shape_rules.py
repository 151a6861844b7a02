"""How the shape of an operator's first output follows from its inputs.

Each rule takes the scope, the call and the shapes of its inputs, and returns None where it cannot tell. A node of the
wrong arity makes it raise, which the caller takes for None.

Source: onnx/docs/Operators.md of ONNX 1.23.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bn_audit.formats._onnx.arguments import attribute_integers, stated_axes
from bn_audit.formats._onnx.calls import Call
from bn_audit.formats._onnx.scopes import Scope
from bn_audit.formats._onnx.size_lists import MAX_LENGTH, size_list
from bn_audit.formats._onnx.sizes import Shape, broadcast, product, rest
from bn_audit.formats._onnx.windows import window_sizes
from bn_audit.subject.graph import Dim

Rule = Callable[[Scope, Call, Sequence[Shape]], Shape]


def _same(_scope: Scope, _call: Call, shapes: Sequence[Shape]) -> Shape:
    return shapes[0]


def _elementwise(_scope: Scope, _call: Call, shapes: Sequence[Shape]) -> Shape:
    return broadcast(*shapes)


def _convolved(_scope: Scope, call: Call, shapes: Sequence[Shape]) -> Shape:
    image, weight = shapes[0], shapes[1]
    if image is None or weight is None:
        return None if image is None else (image[0], *(None for _ in image[1:]))
    if call.node.op == "ConvTranspose":
        group = call.node.attributes.get("group", 1)
        size = weight[1]
        channels = size * group if isinstance(size, int) and isinstance(group, int) else None
        return (image[0], channels, *(None for _ in image[2:]))
    return (image[0], weight[0], *window_sizes(call, image[2:], weight[2:]))


def _pooled(_scope: Scope, call: Call, shapes: Sequence[Shape]) -> Shape:
    image = shapes[0]
    if image is None:
        return None
    if call.node.op.startswith("Global"):
        return (*image[:2], *(1 for _ in image[2:]))
    return (*image[:2], *window_sizes(call, image[2:], attribute_integers(call, "kernel_shape") or ()))


def _reshaped(scope: Scope, call: Call, shapes: Sequence[Shape]) -> Shape:
    before, target = shapes[0], reshape_target(scope, call)
    if target is None:
        return _of_rank(shapes[1] if len(shapes) > 1 else None)
    copies = not call.node.attributes.get("allowzero")
    sizes: list[Dim] = []
    for axis, size in enumerate(target):
        copied = before[axis] if before is not None and axis < len(before) else None
        sizes.append(copied if size == 0 and copies else size)
    if -1 in sizes:
        place = sizes.index(-1)
        sizes[place] = rest(before, [*sizes[:place], *sizes[place + 1 :]])
    return tuple(sizes)


def reshape_target(scope: Scope, call: Call) -> Shape:
    """Return the sizes that a Reshape states, with its 0 and -1; None where not even their number is known."""
    stated = attribute_integers(call, "shape")
    if stated is not None:
        return stated
    return size_list(scope, call.node.inputs[1]) if len(call.node.inputs) > 1 else None


def _of_rank(shape: Shape) -> Shape:
    """Return a shape of unknown sizes where only the number of them is known."""
    count = shape[0] if shape is not None and len(shape) == 1 else None
    return (None,) * count if isinstance(count, int) and count <= MAX_LENGTH else None


def _flattened(_scope: Scope, call: Call, shapes: Sequence[Shape]) -> Shape:
    axis = call.node.attributes.get("axis", 1)
    before = shapes[0]
    if before is None or not isinstance(axis, int):
        return (None, None)
    axis = axis + len(before) if axis < 0 else axis
    return product(before[:axis]), product(before[axis:])


def _transposed(_scope: Scope, call: Call, shapes: Sequence[Shape]) -> Shape:
    before, order = shapes[0], attribute_integers(call, "perm")
    if before is None:
        return None if order is None else (None,) * len(order)
    return tuple(before[axis] for axis in (order if order is not None else range(len(before) - 1, -1, -1)))


def _squeezed(scope: Scope, call: Call, shapes: Sequence[Shape]) -> Shape:
    before, axes = shapes[0], stated_axes(scope, call)
    if before is None or axes is None or (not axes and not all(isinstance(size, int) for size in before)):
        return None
    gone = {axis % len(before) for axis in axes} if axes else {axis for axis, size in enumerate(before) if size == 1}
    return tuple(size for axis, size in enumerate(before) if axis not in gone)


def _unsqueezed(scope: Scope, call: Call, shapes: Sequence[Shape]) -> Shape:
    before, axes = shapes[0], stated_axes(scope, call)
    if before is None or not axes:
        return None
    rank = len(before) + len(axes)
    new = {axis % rank for axis in axes}
    sizes = iter(before)
    return tuple(1 if axis in new else next(sizes) for axis in range(rank))


def _reduced(scope: Scope, call: Call, shapes: Sequence[Shape]) -> Shape:
    before, axes = shapes[0], stated_axes(scope, call)
    keeps = call.node.attributes.get("keepdims", 1)
    if before is None or axes is None:
        return None
    if not axes:
        if call.node.attributes.get("noop_with_empty_axes"):
            return before
        return (1,) * len(before) if keeps else ()
    gone = {axis % len(before) for axis in axes}
    if keeps:
        return tuple(1 if axis in gone else size for axis, size in enumerate(before))
    return tuple(size for axis, size in enumerate(before) if axis not in gone)


def _gemm(_scope: Scope, call: Call, shapes: Sequence[Shape]) -> Shape:
    first, second = shapes[:2]
    rows = first[1 if call.node.attributes.get("transA") else 0] if first is not None else None
    columns = second[0 if call.node.attributes.get("transB") else 1] if second is not None else None
    return (rows, columns)


def _multiplied(_scope: Scope, _call: Call, shapes: Sequence[Shape]) -> Shape:
    first, second = shapes[:2]
    if first is None or second is None or min(len(first), len(second)) < 2:
        return None
    stack = broadcast(first[:-2], second[:-2])
    return None if stack is None else (*stack, first[-2], second[-1])


def _concatenated(_scope: Scope, call: Call, shapes: Sequence[Shape]) -> Shape:
    axis = call.node.attributes.get("axis", 1)
    known = [shape for shape in shapes if shape is not None]
    if not known or not isinstance(axis, int):
        return None
    first = known[0]
    parts = [shape[axis] for shape in known]
    whole = len(known) == len(shapes) and all(isinstance(size, int) for size in parts)
    total: Dim = sum(size for size in parts if isinstance(size, int)) if whole else None
    return tuple(total if place == axis % len(first) else size for place, size in enumerate(first))


def _cut(_scope: Scope, _call: Call, shapes: Sequence[Shape]) -> Shape:
    """Operators that keep the rank, and of the sizes none that is known here."""
    return None if shapes[0] is None else (None,) * len(shapes[0])


def _expanded(scope: Scope, call: Call, shapes: Sequence[Shape]) -> Shape:
    target = size_list(scope, call.node.inputs[1])
    return None if target is None else broadcast(shapes[0], target)


def _made(scope: Scope, call: Call, _shapes: Sequence[Shape]) -> Shape:
    return size_list(scope, call.node.inputs[0])


_SAME = [
    "Identity",
    "Cast",
    "CastLike",
    "Relu",
    "LeakyRelu",
    "Elu",
    "Selu",
    "Celu",
    "Gelu",
    "Mish",
    "ThresholdedRelu",
    "HardSigmoid",
    "HardSwish",
    "Sigmoid",
    "Tanh",
    "Softplus",
    "Softsign",
    "Erf",
    "Exp",
    "Log",
    "Sqrt",
    "Reciprocal",
    "Neg",
    "Abs",
    "Sign",
    "Floor",
    "Ceil",
    "Round",
    "Sin",
    "Cos",
    "Tan",
    "Asin",
    "Acos",
    "Atan",
    "Sinh",
    "Cosh",
    "Asinh",
    "Acosh",
    "Atanh",
    "Clip",
    "Dropout",
    "Softmax",
    "LogSoftmax",
    "Hardmax",
    "BatchNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "GroupNormalization",
    "RMSNormalization",
    "MeanVarianceNormalization",
    "LpNormalization",
    "LRN",
    "PRelu",
    "Not",
    "IsNaN",
    "IsInf",
    "CumSum",
    "QuantizeLinear",
    "DequantizeLinear",
    "Shrink",
    "Trilu",
    "BitwiseNot",
]
_BROADCAST = [
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Mod",
    "Max",
    "Min",
    "Mean",
    "Sum",
    "Where",
    "Equal",
    "Greater",
    "Less",
    "GreaterOrEqual",
    "LessOrEqual",
    "And",
    "Or",
    "Xor",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
]

RULES: dict[str, Rule] = {
    **dict.fromkeys(_SAME, _same),
    **dict.fromkeys(_BROADCAST, _elementwise),
    **dict.fromkeys(("Conv", "ConvTranspose", "ConvInteger"), _convolved),
    **dict.fromkeys(
        ("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), _pooled
    ),
    **dict.fromkeys(
        (
            *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"),
            *("ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"),
        ),
        _reduced,
    ),
    **dict.fromkeys(("Slice", "Pad", "Split", "Tile", "Resize", "Upsample", "GatherElements"), _cut),
    "Reshape": _reshaped,
    "Flatten": _flattened,
    "Transpose": _transposed,
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
    "Gemm": _gemm,
    "MatMul": _multiplied,
    "Concat": _concatenated,
    "Expand": _expanded,
    "ConstantOfShape": _made,
}
"""How the shape of the first output follows, by operator."""
