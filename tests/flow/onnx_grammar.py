"""Random small ONNX graphs, valid at every batch size, for comparing the proof with the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

T = TypeVar("T")
Choose = Callable[[Sequence[Any]], Any]
"""Picks one element; everything random about a graph goes through it."""

Dim = tuple[int, int]
"""Factor and power of the batch size: (2, 1) is two rows for each sample."""
Dims = tuple[Dim, ...]
BATCH: Dim = (1, 1)
SIZES = (2, 6, 7)
"""Sizes of other axes: none is a batch size of the measurement or of the proof."""
OPSET = 17


class SkipError(Exception):
    """The operator does not fit these operands."""


@dataclass
class Builder:
    choose: Choose
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    values: dict[str, Dims] = field(default_factory=dict)
    masks: set[str] = field(default_factory=set)
    domains: set[str] = field(default_factory=set)

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def random(self, *shape: int) -> str:
        seed = len(self.constants) + 1
        return self.constant(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))

    def node(self, op: str, inputs: Sequence[str], dims: Dims | None, *, outputs: int = 1, **attributes: Any) -> str:
        index = len(self.nodes)
        names = [f"v{index}" if i == 0 else f"v{index}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=f"{op}_{index}", **attributes))
        if dims is not None:
            self.values[names[0]] = dims
        return names[0]

    def value(self) -> tuple[str, Dims]:
        recent = list(self.values)[-4:]
        name = self.choose(recent)
        return name, self.values[name]

    def axis(self, dims: Dims) -> int:
        if not dims:
            raise SkipError
        return int(self.choose(range(len(dims))))

    def shape_of(self, dims: Dims) -> str:
        """Return the name of a shape as a tensor, computed from the batch size where it must be."""
        parts = []
        for factor, power in dims:
            if power == 0:
                parts.append(self.ints(factor))
                continue
            size = batch = self.batch_size()
            for _ in range(power - 1):
                size = self.node("Mul", [size, batch], None)
            parts.append(self.node("Mul", [size, self.ints(factor)], None) if factor != 1 else size)
        return self.node("Concat", parts, None, axis=0) if len(parts) != 1 else parts[0]

    def batch_size(self) -> str:
        shape = self.node("Shape", ["x"], None)
        return self.node("Gather", [shape, self.ints(0)], None, axis=0)

    def model(self, outputs: Sequence[str]) -> onnx.ModelProto:
        kinds = [TensorProto.FLOAT] * len(outputs)
        graph = helper.make_graph(
            self.nodes,
            "random",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *(n for n, _ in self.values["x"][1:])])],
            [
                helper.make_tensor_value_info(name, kind, [None] * len(self.values[name]))
                for name, kind in zip(outputs, kinds, strict=True)
            ],
            self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in self.domains)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def static(dims: Sequence[Dim]) -> list[int]:
    """Return sizes that do not change with the batch."""
    if any(power for _, power in dims):
        raise SkipError
    return [factor for factor, _ in dims]


def unary(b: Builder) -> None:
    name, dims = b.value()
    op = b.choose(["Tanh", "Neg", "Sigmoid", "Abs", "Identity", "Sin", "LeakyRelu", "Softplus", "Erf"])
    b.node(op, [name], dims)


def scaled(b: Builder) -> None:
    name, dims = b.value()
    op = b.choose(["Add", "Mul", "Sub"])
    shape = static(dims[len(dims) - b.choose(range(len(dims) + 1)) :])
    b.node(op, [name, b.random(*shape)], dims)


def masked(b: Builder) -> None:
    name, dims = b.value()
    if not dims:
        raise SkipError
    mask = np.random.default_rng(len(b.nodes)).random(static(dims[-1:])) > 0.5
    yes, no = (name, b.constant(np.zeros((), np.float32)))
    b.node("Where", [b.constant(mask), *b.choose([(yes, no), (no, yes)])], dims)


def by_position(b: Builder) -> None:
    """The index of the row, by a vector that no later norm cancels, is added or multiplied."""
    name, dims = b.value()
    if BATCH not in dims or dims[-1] == BATCH:
        raise SkipError
    axis = dims.index(BATCH)
    scalar = b.node("Squeeze", [b.batch_size()], None)
    steps = b.node("Range", [b.constant(np.array(0)), scalar, b.constant(np.array(1))], None)
    steps = b.node("Cast", [steps], None, to=TensorProto.FLOAT)
    steps = b.node("Unsqueeze", [steps, b.ints(*range(1, len(dims) - axis))], None)
    shape = [1 if power else factor for factor, power in dims]
    steps = b.node("Mul", [steps, b.random(*shape)], None)
    b.node("Add", [name, steps], dims)


def by_size(b: Builder) -> None:
    name, dims = b.value()
    if not dims:
        raise SkipError
    size = b.node("Cast", [b.node("Squeeze", [b.batch_size()], None)], None, to=TensorProto.FLOAT)
    factor = b.node("Mul", [size, b.random(*(1 if power else factor for factor, power in dims))], None)
    b.node("Add", [name, factor], dims)


def combined(b: Builder) -> None:
    name, dims = b.value()
    other, more = b.value()
    rank = max(len(dims), len(more))
    left, right = ((1, 0),) * (rank - len(dims)) + dims, ((1, 0),) * (rank - len(more)) + more
    if any(p != q and (1, 0) not in (p, q) for p, q in zip(left, right, strict=True)) or rank > 4:
        raise SkipError
    result = tuple(q if p == (1, 0) else p for p, q in zip(left, right, strict=True))
    b.node(b.choose(["Add", "Mul", "Max", "Sub"]), [name, other], result)


def reduced(b: Builder) -> None:
    name, dims = b.value()
    axis, keep = b.axis(dims), b.choose([0, 1])
    op = b.choose(["ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2"])
    rest = tuple(d if a != axis else (1, 0) for a, d in enumerate(dims) if keep or a != axis)
    if op == "ReduceSum":
        b.node(op, [name, b.ints(axis)], rest, keepdims=keep)
    else:
        b.node(op, [name], rest, axes=[axis], keepdims=keep)


def centred(b: Builder) -> None:
    name, dims = b.value()
    axis = b.axis(dims)
    if dims[axis] == (1, 0):
        raise SkipError
    other = b.node(b.choose(["ReduceMean", "ReduceL2"]), [name], None, axes=[axis], keepdims=1)
    b.node(b.choose(["Add", "Mul"]), [name, other], dims)


def soft(b: Builder) -> None:
    name, dims = b.value()
    b.node("Softmax", [name], dims, axis=b.axis(dims))


def cumulative(b: Builder) -> None:
    name, dims = b.value()
    axis = b.constant(np.array(b.axis(dims)))
    b.node("CumSum", [name, axis], dims, reverse=b.choose([0, 1]), exclusive=b.choose([0, 1]))


def top(b: Builder) -> None:
    name, dims = b.value()
    axis = b.axis(dims)
    if dims[axis] == (1, 0):
        raise SkipError
    result = (*dims[:axis], (2, 0), *dims[axis + 1 :])
    b.node("TopK", [name, b.ints(2)], result, outputs=2, axis=axis)


def transposed(b: Builder) -> None:
    name, dims = b.value()
    order = list(range(len(dims)))
    for last in range(len(order) - 1, 0, -1):
        other = b.choose(range(last + 1))
        order[last], order[other] = order[other], order[last]
    b.node("Transpose", [name], tuple(dims[i] for i in order), perm=order)


def merged(b: Builder) -> None:
    name, dims = b.value()
    if len(dims) < 2:
        raise SkipError
    axis = b.choose(range(len(dims) - 1))
    (f, p), (g, q) = dims[axis : axis + 2]
    if p + q > 2 or f * g > 50:
        raise SkipError
    result = (*dims[:axis], (f * g, p + q), *dims[axis + 2 :])
    b.node("Reshape", [name, b.shape_of(result)], result)


def split(b: Builder) -> None:
    name, dims = b.value()
    axis = b.axis(dims)
    factor, power = dims[axis]
    ways: list[tuple[Dim, Dim]] = []
    for part in range(2, factor + 1):
        if factor % part == 0:
            ways += [((part, 0), (factor // part, power)), ((factor // part, power), (part, 0))]
    if power == 2:
        ways.append(((1, 1), (factor, 1)))
    if not ways or len(dims) > 3:
        raise SkipError
    result = (*dims[:axis], *b.choose(ways), *dims[axis + 1 :])
    b.node("Reshape", [name, b.shape_of(result)], result)


def scrambled(b: Builder) -> None:
    name, dims = b.value()
    if len(dims) < 2:
        raise SkipError
    order = list(range(len(dims)))
    i, j = b.choose(order), b.choose(order)
    order[i], order[j] = order[j], order[i]
    result = tuple(dims[a] for a in order)
    b.node("Reshape", [name, b.shape_of(result)], result)


def flattened(b: Builder) -> None:
    name, dims = b.value()
    axis = b.axis(dims)
    halves = []
    for part in (dims[:axis], dims[axis:]):
        factor, power = 1, 0
        for f, p in part:
            factor, power = factor * f, power + p
        halves.append((factor, power))
    if any(power > 2 or factor > 100 for factor, power in halves):
        raise SkipError
    b.node("Flatten", [name], tuple(halves), axis=axis)


def sliced(b: Builder) -> None:
    name, dims = b.value()
    axis = b.axis(dims)
    factor, power = dims[axis]
    if b.choose([True, False]):
        inputs = [name, b.ints(-1), b.ints(-(2**62)), b.ints(axis), b.ints(-1)]
        b.node("Slice", inputs, dims)
    elif power == 0 and factor > 1:
        count = b.choose(range(1, factor))
        start = b.choose(range(factor - count + 1))
        result = (*dims[:axis], (count, 0), *dims[axis + 1 :])
        b.node("Slice", [name, b.ints(start), b.ints(start + count), b.ints(axis), b.ints(1)], result)
    elif power == 1 and factor == 1:
        result = (*dims[:axis], (1, 0), *dims[axis + 1 :])
        b.node("Slice", [name, b.ints(0), b.ints(1), b.ints(axis), b.ints(1)], result)
    else:
        raise SkipError


def rolled(b: Builder) -> None:
    name, dims = b.value()
    axis = b.axis(dims)
    if dims[axis] == (1, 0):
        raise SkipError
    head = b.node("Slice", [name, b.ints(0), b.ints(1), b.ints(axis)], None)
    tail = b.node("Slice", [name, b.ints(1), b.ints(2**62), b.ints(axis)], None)
    b.node("Concat", b.choose([[tail, head], [head, tail]]), dims, axis=axis)


def joined(b: Builder) -> None:
    name, dims = b.value()
    other, more = b.value()
    axis = b.axis(dims)
    if len(dims) != len(more) or dims[axis][1] != more[axis][1] or dims[axis][0] + more[axis][0] > 30:
        raise SkipError
    if any(p != q for a, (p, q) in enumerate(zip(dims, more, strict=True)) if a != axis):
        raise SkipError
    size = (dims[axis][0] + more[axis][0], dims[axis][1])
    b.node("Concat", [name, other], (*dims[:axis], size, *dims[axis + 1 :]), axis=axis)


def with_token(b: Builder) -> None:
    name, dims = b.value()
    axis = b.axis(dims)
    if dims[axis][1]:
        raise SkipError
    shape = tuple(d if a != axis else (1, 0) for a, d in enumerate(dims))
    part = b.node("Expand", [b.random(*(1,) * len(dims)), b.shape_of(shape)], None)
    result = (*dims[:axis], (dims[axis][0] + 1, 0), *dims[axis + 1 :])
    b.node("Concat", b.choose([[part, name], [name, part]]), result, axis=axis)


def taken(b: Builder) -> None:
    name, dims = b.value()
    axis = b.axis(dims)
    factor, power = dims[axis]
    if power:
        raise SkipError
    places = [b.choose(range(factor)) for _ in range(b.choose([1, 2, 6]))]
    result = (*dims[:axis], (len(places), 0), *dims[axis + 1 :])
    b.node("Gather", [name, b.ints(*places)], result, axis=axis)


def tiled(b: Builder) -> None:
    name, dims = b.value()
    axis = b.axis(dims)
    factor, power = dims[axis]
    if factor * 2 > 30:
        raise SkipError
    repeats = b.ints(*(2 if a == axis else 1 for a in range(len(dims))))
    b.node("Tile", [name, repeats], (*dims[:axis], (factor * 2, power), *dims[axis + 1 :]))


def repeated(b: Builder) -> None:
    """Each element twice in a row, as repeat_interleave does."""
    name, dims = b.value()
    axis = b.axis(dims)
    factor, power = dims[axis]
    if factor * 2 > 30 or len(dims) > 3:
        raise SkipError
    opened = b.node("Unsqueeze", [name, b.ints(axis + 1)], None)
    wide = (*dims[: axis + 1], (2, 0), *dims[axis + 1 :])
    opened = b.node("Expand", [opened, b.shape_of(wide)], None)
    result = (*dims[:axis], (factor * 2, power), *dims[axis + 1 :])
    b.node("Reshape", [opened, b.shape_of(result)], result)


def padded(b: Builder) -> None:
    name, dims = b.value()
    axis = b.axis(dims)
    factor, power = dims[axis]
    if power:
        raise SkipError
    front, back = b.choose([(1, 0), (0, 1), (1, 1)])
    pads = [front if a == axis else 0 for a in range(len(dims))] + [back if a == axis else 0 for a in range(len(dims))]
    b.node("Pad", [name, b.ints(*pads)], (*dims[:axis], (factor + front + back, 0), *dims[axis + 1 :]))


def unsqueezed(b: Builder) -> None:
    name, dims = b.value()
    if len(dims) > 3:
        raise SkipError
    axis = b.choose(range(len(dims) + 1))
    b.node("Unsqueeze", [name, b.ints(axis)], (*dims[:axis], (1, 0), *dims[axis:]))


def linear(b: Builder) -> None:
    name, dims = b.value()
    if not dims:
        raise SkipError
    (size,) = static(dims[-1:])
    out = b.choose(SIZES)
    b.node("MatMul", [name, b.random(size, out)], (*dims[:-1], (out, 0)))


def mixing_rows(b: Builder) -> None:
    name, dims = b.value()
    if len(dims) < 2:
        raise SkipError
    (size,) = static(dims[-2:-1])
    out = b.choose(SIZES)
    b.node("MatMul", [b.random(out, size), name], (*dims[:-2], (out, 0), dims[-1]))


def similarity(b: Builder) -> None:
    name, dims = b.value()
    if len(dims) < 2 or dims[-2][0] > 14:
        raise SkipError
    order = [*range(len(dims) - 2), len(dims) - 1, len(dims) - 2]
    turned = b.node("Transpose", [name], None, perm=order)
    b.node("MatMul", [name, turned], (*dims[:-1], dims[-2]))


def block_mask(b: Builder) -> None:
    """Rows see those of their own sample only: the same block along the diagonal for each sample."""
    name, dims = b.value()
    if len(dims) < 2 or dims[-2][1] != 1 or dims[-2][0] > 7:
        raise SkipError
    count = dims[-2][0]
    places = b.node("Squeeze", [b.batch_size()], None)
    steps = b.node("Range", [b.constant(np.array(0)), places, b.constant(np.array(1))], None)
    row = b.node("Unsqueeze", [steps, b.ints(1)], None)
    column = b.node("Unsqueeze", [steps, b.ints(0)], None)
    eye = b.node("Cast", [b.node("Equal", [row, column], None)], None, to=TensorProto.FLOAT)
    eye = b.node("Reshape", [eye, b.shape_of(((1, 1), (1, 0), (1, 1), (1, 0)))], None)
    block = b.node("Mul", [eye, b.random(1, count, 1, count)], None)
    block = b.node("Reshape", [block, b.shape_of(((count, 1), (count, 1)))], None)
    b.node("MatMul", [block, name], dims)


def layer_norm(b: Builder) -> None:
    name, dims = b.value()
    if not dims:
        raise SkipError
    (size,) = static(dims[-1:])
    if size < 6:
        raise SkipError
    b.node("LayerNormalization", [name, b.random(size), b.random(size)], dims, axis=-1)


def instance_norm(b: Builder) -> None:
    name, dims = b.value()
    if len(dims) < 3 or dims[2][0] < 6:
        raise SkipError
    (channels,) = static(dims[1:2])
    b.node("InstanceNormalization", [name, b.random(channels), b.random(channels)], dims)


def batch_norm(b: Builder) -> None:
    name, dims = b.value()
    if len(dims) < 2:
        raise SkipError
    (channels,) = static(dims[1:2])
    variance = b.constant(np.linspace(0.5, 2, channels, dtype=np.float32))
    inputs = [name, b.random(channels), b.random(channels), b.random(channels), variance]
    if b.choose([True, False]):
        b.node("BatchNormalization", inputs, dims, outputs=3, training_mode=1)
    else:
        b.node("BatchNormalization", inputs, dims)


def conv(b: Builder) -> None:
    name, dims = b.value()
    if len(dims) != 3:
        raise SkipError
    channels, _ = static(dims[1:])
    groups = b.choose([1, channels])
    out = groups * b.choose([1, 2])
    weight = b.random(out, channels // groups, 3)
    b.node("Conv", [name, weight], (dims[0], (out, 0), dims[2]), group=groups, pads=[1, 1])


def conv_over_batch(b: Builder) -> None:
    """The batch as the length of a signal."""
    name, dims = b.value()
    if len(dims) != 3 or dims[2][1] == 0:
        raise SkipError
    (channels,) = static(dims[1:2])
    taps = b.choose([1, 3])
    b.node("Conv", [name, b.random(2, channels, taps)], (dims[0], (2, 0), dims[2]), pads=[taps // 2] * 2)


def pooled(b: Builder) -> None:
    name, dims = b.value()
    if len(dims) != 3:
        raise SkipError
    op = b.choose(["MaxPool", "AveragePool"])
    b.node(op, [name], dims, kernel_shape=[3], pads=[1, 1])


def recurrent(b: Builder) -> None:
    name, dims = b.value()
    if len(dims) != 3:
        raise SkipError
    (size,) = static(dims[2:])
    direction = b.choose(["forward", "reverse", "bidirectional"])
    count = 2 if direction == "bidirectional" else 1
    inputs = [name, b.random(count, 3 * 2, size), b.random(count, 3 * 2, 2)]
    gru = b.node("GRU", inputs, None, hidden_size=2, direction=direction)
    b.node("Transpose", [gru], (dims[0], dims[1], (count, 0), (2, 0)), perm=[0, 2, 1, 3])


def one_hot(b: Builder) -> None:
    name, dims = b.value()
    axis = b.axis(dims)
    (size,) = static(dims[axis : axis + 1])
    place = b.node("ArgMax", [name], None, axis=axis, keepdims=0)
    values = b.constant(np.array([0, 1], np.float32))
    mask = b.node("OneHot", [place, b.ints(size), values], dims, axis=axis)
    if b.choose([True, False]):
        b.node("Mul", [name, mask], dims)


def looked_up(b: Builder) -> None:
    name, dims = b.value()
    axis = b.axis(dims)
    (size,) = static(dims[axis : axis + 1])
    place = b.node("ArgMax", [name], None, axis=axis, keepdims=0)
    rest = tuple(d for a, d in enumerate(dims) if a != axis)
    b.node("Gather", [b.random(size, 2), place], (*rest, (2, 0)), axis=0)


def put(b: Builder) -> None:
    name, dims = b.value()
    if not dims:
        raise SkipError
    row = b.node("Slice", [name, b.ints(0), b.ints(1), b.ints(0)], None)
    changed = b.node("Mul", [row, b.random(*static(dims[-1:]))], None)
    b.node("ScatterND", [name, b.constant(np.array([[0]])), changed], dims)


def triangle(b: Builder) -> None:
    name, dims = b.value()
    if len(dims) < 2:
        raise SkipError
    b.node("Trilu", [name], dims, upper=b.choose([0, 1]))


def quantised(b: Builder) -> None:
    name, dims = b.value()
    made = b.node("DynamicQuantizeLinear", [name], None, outputs=3)
    b.node("DequantizeLinear", [made, f"{made}_1", f"{made}_2"], dims)


OPERATORS: tuple[Callable[[Builder], None], ...] = (
    unary,
    scaled,
    masked,
    combined,
    combined,
    reduced,
    centred,
    soft,
    cumulative,
    top,
    transposed,
    transposed,
    merged,
    merged,
    split,
    split,
    scrambled,
    flattened,
    sliced,
    rolled,
    joined,
    with_token,
    taken,
    tiled,
    repeated,
    padded,
    unsqueezed,
    linear,
    mixing_rows,
    similarity,
    block_mask,
    layer_norm,
    instance_norm,
    batch_norm,
    conv,
    conv_over_batch,
    pooled,
    recurrent,
    one_hot,
    looked_up,
    put,
    triangle,
    by_position,
    by_size,
    quantised,
)


DEGENERATE = frozenset({masked, top, one_hot, looked_up, triangle, quantised, put, cumulative})
"""Operators after which a later one may happen to give a constant: ranks of ties, masked products, rounded values."""

SMOOTH = tuple(operator for operator in OPERATORS if operator not in DEGENERATE)


def random_graph(
    choose: Choose, length: int, operators: Sequence[Callable[[Builder], None]] = OPERATORS
) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """Return a model with that many operators or fewer, and the shape of one sample."""
    shape = tuple(choose(SIZES) for _ in range(choose([1, 2, 2, 3])))
    builder = Builder(choose)
    builder.values["x"] = (BATCH, *((size, 0) for size in shape))
    for _ in range(length):
        mark = len(builder.nodes), len(builder.constants)
        try:
            choose(operators)(builder)
        except SkipError:
            del builder.nodes[mark[0] :], builder.constants[mark[1] :]
    return builder.model([list(builder.values)[-1]]), shape
