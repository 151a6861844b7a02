"""What batch norms of an ONNX graph normalise: its operators in the words of the walk in ``bn_audit.flow``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bn_audit.flow.origin import Operation, input_origin
from bn_audit.flow.placement import Folded, Placement, Special
from bn_audit.formats._onnx.arguments import attribute_integers, stated_axes
from bn_audit.formats._onnx.calls import Call
from bn_audit.formats._onnx.scopes import Scope, may_draw
from bn_audit.formats._onnx.shape_rules import reshape_target
from bn_audit.formats._onnx.shapes import Shapes
from bn_audit.formats._onnx.sizes import Shape
from bn_audit.subject.norm import InputOrigin

_SAME_NAMES = (
    "Add Sub Mul Div Pow Where Clip Relu Elu Celu Selu Gelu Mish Sigmoid Tanh Softplus Softsign Exp Log Sqrt "
    "Reciprocal Abs Neg Sign Sin Cos Tan Atan Erf Ceil Floor Round Softmax LogSoftmax Pad Split Slice"
)

_NAMES: dict[str, str] = {
    **{name: name.lower() for name in _SAME_NAMES.split()},
    **dict.fromkeys(("Identity", "Cast", "CastLike"), "to"),
    **dict.fromkeys(("Max", "Sum", "Mean"), "maximum"),
    **dict.fromkeys(("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "And", "Or", "Xor"), "eq"),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), "max_pool2d"),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), "adaptive_avg_pool2d"),
    **dict.fromkeys(("Resize", "Upsample"), "upsample_nearest2d"),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), "pixel_shuffle"),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"), "sum"),
    **dict.fromkeys(("ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"), "sum"),
    **dict.fromkeys(("ThresholdedRelu", "HardSigmoid", "HardSwish", "Shrink", "Not", "IsNaN"), "relu"),
    "Min": "minimum",
    "LeakyRelu": "leaky_relu",
    "Dropout": "dropout",
    "QuantizeLinear": "quantize_per_tensor",
    "DequantizeLinear": "dequantize_per_tensor",
    "Conv": "convolution",
    "ConvTranspose": "conv_transpose2d",
    "MatMul": "matmul",
    "PRelu": "prelu",
    "LRN": "local_response_norm",
    "BatchNormalization": "batch_norm",
    "InstanceNormalization": "instance_norm",
    "LayerNormalization": "layer_norm",
    "GroupNormalization": "group_norm",
    "Concat": "cat",
    "Expand": "expand",
}
"""ONNX operators by the names of the ATen operators that do the same to the place of the samples."""

_RANDOM_LIKE = {
    "RandomNormalLike": "randn_like",
    "RandomUniformLike": "rand_like",
    "Bernoulli": "bernoulli",
    "Multinomial": "multinomial",
}

_FIRST_ALONE = frozenset(("Clip", "Dropout", "Pad", "Split", "Slice", "Resize", "Upsample", "Expand"))
"""Operators whose further inputs are sizes and settings."""


class Flow:
    """Answers what the values of a graph are made of; what was found once is kept."""

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        self._producers: dict[int, dict[str, Operation]] = {}
        self._placements: dict[int, dict[str, Placement]] = {}
        self._scopes: list[Scope] = []

    def origin(self, scope: Scope, value: str) -> InputOrigin:
        """Return what a batch norm over a value would normalise."""
        placements = self._placements.setdefault(id(scope), {})
        return input_origin(
            value, self._of(scope), parameters=_Fixed(scope), inputs=_outermost(scope).inputs, placements=placements
        )

    def place(self, scope: Scope, value: str) -> Placement:
        """Return where the samples lie within a value."""
        self.origin(scope, value)
        return self._placements[id(scope)].get(value, Special.UNKNOWN)

    def sample_channels(self, scope: Scope, value: str) -> int | None:
        """Return the channels of one sample where samples are folded into the channels of the value."""
        place = self.place(scope, value)
        channels = place.sample[0] if isinstance(place, Folded) and place.sample else None
        return channels if isinstance(channels, int) else None

    def _of(self, scope: Scope) -> Mapping[str, Operation]:
        known = self._producers.get(id(scope))
        if known is None:
            known = dict(self._of(scope.outer)) if scope.outer is not None else {}
            for name, value in scope.inputs.items():
                known[name] = Operation(op="placeholder", inputs=(), shape=value.shape)
            for name, tensor in scope.body.graph.constants.items():
                known[name] = Operation(op="placeholder", inputs=(), shape=tensor.shape)
            for call in scope.body.calls:
                known.update(_operations(scope, call, self.shapes))
            self._producers[id(scope)] = known
            self._scopes.append(scope)
        return known


class _Fixed:
    """The values that no sample determines, as a container."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __contains__(self, value: object) -> bool:
        return isinstance(value, str) and self._scope.is_fixed(value)


def _outermost(scope: Scope) -> Scope:
    while scope.outer is not None:
        scope = scope.outer
    return scope


def _operations(scope: Scope, call: Call, shapes: Shapes) -> Iterator[tuple[str, Operation]]:
    """Yield one operation for each output of a call, and those between where ONNX does two things in one."""
    node = call.node
    known = [shapes(scope, name) for name in node.inputs]
    if not node.outputs:
        return
    first, shape = node.outputs[0], shapes(scope, node.outputs[0])
    if node.domain or call.bodies:
        # What draws numbers, or may, gives samples that differ although nothing but constants goes in.
        name = "bernoulli" if call.bodies or may_draw(call) else "opaque"
        inputs = (*node.inputs, *(value for _, body in call.bodies for value in body.free))
        yield from ((output, _operation(name, inputs, (), shapes(scope, output))) for output in node.outputs)
        return
    special = _SPECIAL.get(node.op)
    if special is not None:
        yield from special(scope, call, known, shape)
        return
    name = _NAMES.get(node.op, _RANDOM_LIKE.get(node.op, "opaque"))
    inputs = node.inputs[:1] if node.op in _FIRST_ALONE else node.inputs
    numbers: tuple[int | None, ...] = ()
    if name == "sum":
        axes = stated_axes(scope, call)
        inputs = node.inputs[:1]
        numbers = axes if axes else (None,)
    if name in ("softmax", "logsoftmax") and node.attributes.get("axis", -1) == 0:
        name = "opaque"
    yield first, _operation(name, inputs, numbers, shape)
    # The further outputs of other operators are statistics or indices, without a known place of the samples.
    if node.op == "Split":
        yield from ((name, _operation("split", inputs, (), shapes(scope, name))) for name in node.outputs[1:])


def _operation(op: str, inputs: Sequence[str], numbers: Sequence[int | None], shape: Shape) -> Operation:
    return Operation(op=op, inputs=tuple(name for name in inputs if name), integers=tuple(numbers), shape=shape)


_Parts = Iterator[tuple[str, Operation]]


def _reshape(scope: Scope, call: Call, _known: Sequence[Shape], shape: Shape) -> _Parts:
    target = reshape_target(scope, call)
    # A size of 0 is the size there was: the shape says which.
    numbers = tuple(size if isinstance(size, int) else None for size in target or () if 0 not in (target or ()))
    yield call.node.outputs[0], _operation("reshape", call.node.inputs[:1], numbers, shape)


def _flatten(_scope: Scope, call: Call, _known: Sequence[Shape], shape: Shape) -> _Parts:
    if call.node.attributes.get("axis", 1) == 1:
        yield call.node.outputs[0], _operation("flatten", call.node.inputs, (1,), shape)
    else:
        yield call.node.outputs[0], _operation("reshape", call.node.inputs, (), shape)


def _transpose(_scope: Scope, call: Call, known: Sequence[Shape], shape: Shape) -> _Parts:
    order = attribute_integers(call, "perm")
    if order is None and known and known[0] is not None:
        order = tuple(reversed(range(len(known[0]))))
    yield call.node.outputs[0], _operation("permute", call.node.inputs, order or (), shape)


def _unsqueeze(scope: Scope, call: Call, known: Sequence[Shape], shape: Shape) -> _Parts:
    """One axis after the other, in ascending order, as their numbers in the result count."""
    axes, before = stated_axes(scope, call), known[0] if known else None
    rank = len(before) if before is not None else len(shape) - len(axes) if shape is not None and axes else None
    if not axes or (rank is None and min(axes) < 0):
        yield call.node.outputs[0], _operation("opaque", call.node.inputs[:1], (), shape)
        return
    ordered = sorted(axis + (rank or 0) + len(axes) if axis < 0 else axis for axis in axes)
    value, sizes = call.node.inputs[0], before
    for index, axis in enumerate(ordered):
        last = index == len(ordered) - 1
        sizes = None if sizes is None else (*sizes[:axis], 1, *sizes[axis:])
        result = call.node.outputs[0] if last else f"{call.node.outputs[0]}\0{index}"
        yield result, _operation("unsqueeze", (value,), (axis,), shape if last else sizes)
        value = result


def _squeeze(scope: Scope, call: Call, _known: Sequence[Shape], shape: Shape) -> _Parts:
    axes = stated_axes(scope, call)
    name = "squeeze" if axes is not None else "opaque"
    yield call.node.outputs[0], _operation(name, call.node.inputs[:1], axes or (), shape)


def _gemm(_scope: Scope, call: Call, _known: Sequence[Shape], shape: Shape) -> _Parts:
    name = "opaque" if call.node.attributes.get("transA") else "linear"
    yield call.node.outputs[0], _operation(name, call.node.inputs, (), shape)


def _gather(scope: Scope, call: Call, known: Sequence[Shape], shape: Shape) -> _Parts:
    axis = call.node.attributes.get("axis", 0)
    data, indices = call.node.inputs[:2] if len(call.node.inputs) > 1 else ("", "")
    name, numbers = "opaque", tuple[int, ...]()
    if isinstance(axis, int) and scope.is_fixed(data):
        name = "embedding" if axis == 0 else "opaque"
    elif isinstance(axis, int) and axis != 0 and scope.is_fixed(indices):
        scalar = len(known) > 1 and known[1] == ()
        name, numbers = ("select", (axis,)) if scalar else ("index_select", ())
    inputs = call.node.inputs[:1] if name in ("select", "index_select") else call.node.inputs
    yield call.node.outputs[0], _operation(name, inputs, numbers, shape)


_SPECIAL = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Gemm": _gemm,
    "Gather": _gather,
}
"""Operators whose axes or operands need more than another name."""
