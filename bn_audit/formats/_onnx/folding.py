"""Operators on constants: the shape and dtype of the result at once, its elements when they are asked for.

Each takes the call and its constant inputs, None for an omitted one, and returns None where it cannot tell.

Source: onnx/docs/Operators.md of ONNX 1.23.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from bn_audit.containers.onnx_file.tensors import dtype_name
from bn_audit.formats._onnx.arithmetic import (
    BINARY,
    UNARY,
    broadcast_shape,
    broadcasted,
    encode,
    truncated_quotient,
)
from bn_audit.formats._onnx.calls import Call
from bn_audit.subject.tensor import ITEM_SIZES, TensorRef

MAX_ELEMENTS = 1 << 18
"""Largest value that is computed: the tensors of a norm layer have some thousand elements."""

MAX_RANK = 64
"""More dimensions than any framework knows."""

Inputs = Sequence[TensorRef | None]


def _new(dtype: str, shape: tuple[int, ...], compute: Callable[[], Sequence[float]]) -> TensorRef | None:
    if (
        dtype not in ITEM_SIZES
        or len(shape) > MAX_RANK
        or math.prod(shape) > MAX_ELEMENTS
        or any(size < 0 for size in shape)
    ):
        return None
    computed: list[bytes] = []

    def load() -> bytes:
        # Kept, so that a chain in which each value is used twice costs no more than its length.
        if not computed:
            computed.append(encode(dtype, compute()))
        return computed[0]

    return TensorRef(name="", dtype=dtype, shape=shape, load=load)


def _moved(tensor: TensorRef, shape: tuple[int, ...] | None) -> TensorRef | None:
    """Return the same elements in the same order in another shape."""
    if shape is None or len(shape) > MAX_RANK or math.prod(shape) != tensor.numel:
        return None
    return TensorRef(name="", dtype=tensor.dtype, shape=shape, load=tensor.load)


def _integers(tensor: TensorRef | None) -> tuple[int, ...] | None:
    if tensor is None or tensor.dtype not in ("int64", "int32") or tensor.numel > 64:
        return None
    return tuple(int(value) for value in tensor.values())


def _axes(call: Call, inputs: Inputs, rank: int) -> tuple[int, ...] | None:
    """Return the axes of Squeeze and its like, from the attribute or, since operator set 13, the second input."""
    stated = call.node.attributes.get("axes")
    if isinstance(stated, tuple):
        axes: tuple[int, ...] | None = tuple(axis for axis in stated if isinstance(axis, int))
    else:
        axes = _integers(inputs[1]) if len(inputs) > 1 else None
    return None if axes is None else tuple(axis + rank if axis < 0 else axis for axis in axes)


def _identity(_call: Call, inputs: Inputs) -> TensorRef | None:
    return inputs[0] if inputs else None


def _constant(call: Call, _inputs: Inputs) -> TensorRef | None:
    attributes = call.node.attributes
    value = attributes.get("value")
    if isinstance(value, TensorRef):
        return value
    for name, dtype in (("value_float", "float32"), ("value_int", "int64")):
        number = attributes.get(name)
        if isinstance(number, int | float):
            return _new(dtype, (), partial(list, (number,)))
    for name, dtype in (("value_floats", "float32"), ("value_ints", "int64")):
        items = attributes.get(name)
        if isinstance(items, tuple):
            numbers = [item for item in items if isinstance(item, int | float)]
            return _new(dtype, (len(numbers),), partial(list, numbers))
    return None


def _constant_of_shape(call: Call, inputs: Inputs) -> TensorRef | None:
    shape = _integers(inputs[0])
    value = call.node.attributes.get("value")
    if shape is None:
        return None
    if not isinstance(value, TensorRef):
        return _new("float32", shape, lambda: [0.0] * math.prod(shape))
    return _new(value.dtype, shape, lambda: [value.values()[0]] * math.prod(shape)) if value.numel == 1 else None


def _cast(call: Call, inputs: Inputs) -> TensorRef | None:
    (tensor,) = inputs[:1]
    target = call.node.attributes.get("to")
    if call.node.op == "CastLike":
        dtype = inputs[1].dtype if inputs[1] is not None else None
    else:
        # The first operator set writes the type as text.
        dtype = dtype_name(target) if isinstance(target, int) else _TYPE_NAMES.get(str(target))
    if tensor is None or dtype is None:
        return None
    return tensor if dtype == tensor.dtype else _new(dtype, tensor.shape, tensor.values)


_TYPE_NAMES = {"FLOAT": "float32", "FLOAT16": "float16", "DOUBLE": "float64", "INT32": "int32", "INT64": "int64"}


def _reshape(call: Call, inputs: Inputs) -> TensorRef | None:
    tensor, stated = inputs[0], call.node.attributes.get("shape")
    if isinstance(stated, tuple):
        target: tuple[int, ...] | None = tuple(size for size in stated if isinstance(size, int))
    else:
        target = _integers(inputs[1]) if len(inputs) > 1 else None
    if tensor is None or target is None:
        return None
    copies = not call.node.attributes.get("allowzero")
    sizes = [tensor.shape[axis] if size == 0 and copies else size for axis, size in enumerate(target)]
    if -1 in sizes:
        rest = -math.prod(sizes)
        sizes[sizes.index(-1)] = tensor.numel // rest if rest > 0 else -1
    return _moved(tensor, tuple(sizes))


def _squeeze(call: Call, inputs: Inputs) -> TensorRef | None:
    tensor = inputs[0]
    if tensor is None:
        return None
    axes = _axes(call, inputs, len(tensor.shape))
    if axes is None:
        return _moved(tensor, tuple(size for size in tensor.shape if size != 1))
    return _moved(tensor, tuple(size for axis, size in enumerate(tensor.shape) if axis not in axes))


def _unsqueeze(call: Call, inputs: Inputs) -> TensorRef | None:
    tensor = inputs[0]
    given = _axes(call, inputs, 0)
    if tensor is None or given is None:
        return None
    rank = len(tensor.shape) + len(given)
    axes = {axis + rank if axis < 0 else axis for axis in given}
    sizes = iter(tensor.shape)
    return _moved(tensor, tuple(1 if axis in axes else next(sizes, 1) for axis in range(rank)))


def _flatten(call: Call, inputs: Inputs) -> TensorRef | None:
    tensor, axis = inputs[0], call.node.attributes.get("axis", 1)
    if tensor is None or not isinstance(axis, int):
        return None
    return _moved(tensor, (math.prod(tensor.shape[:axis]), math.prod(tensor.shape[axis:])))


def _transpose(call: Call, inputs: Inputs) -> TensorRef | None:
    tensor = inputs[0]
    if tensor is None or sum(size != 1 for size in tensor.shape) > 1:
        return None
    order = call.node.attributes.get("perm")
    axes = order if isinstance(order, tuple) else tuple(reversed(range(len(tensor.shape))))
    return _moved(tensor, tuple(tensor.shape[axis] for axis in axes if isinstance(axis, int)))


def _expand(_call: Call, inputs: Inputs) -> TensorRef | None:
    tensor, target = inputs[0], _integers(inputs[1])
    shape = None if tensor is None or target is None else broadcast_shape(tensor.shape, target)
    if tensor is None or shape is None:
        return None
    return _new(tensor.dtype, shape, lambda: broadcasted(tensor.values(), tensor.shape, shape))


def _binary(call: Call, inputs: Inputs) -> TensorRef | None:
    first, second = inputs
    shape = None if first is None or second is None else broadcast_shape(first.shape, second.shape)
    if first is None or second is None or shape is None or (call.version or 0) < 7:
        return None
    whole = first.dtype in ("int32", "int64", "uint8", "int8", "uint32", "uint64")
    operation = truncated_quotient if whole and call.node.op == "Div" else BINARY[call.node.op]

    def compute() -> Sequence[float]:
        pairs = zip(
            broadcasted(first.values(), first.shape, shape),
            broadcasted(second.values(), second.shape, shape),
            strict=True,
        )
        return [operation(left, right) for left, right in pairs]

    return _new(first.dtype, shape, compute)


def _unary(call: Call, inputs: Inputs) -> TensorRef | None:
    tensor, operation = inputs[0], UNARY[call.node.op]
    if tensor is None:
        return None
    return _new(tensor.dtype, tensor.shape, lambda: [operation(value) for value in tensor.values()])


def _concat(_call: Call, inputs: Inputs) -> TensorRef | None:
    parts = [tensor for tensor in inputs if tensor is not None and len(tensor.shape) == 1]
    if len(parts) != len(inputs) or len({tensor.dtype for tensor in parts}) != 1:
        return None
    count = sum(tensor.numel for tensor in parts)
    if count > MAX_ELEMENTS:
        return None
    return TensorRef(
        name="", dtype=parts[0].dtype, shape=(count,), load=lambda: b"".join(tensor.load() for tensor in parts)
    )


def _dequantize(call: Call, inputs: Inputs) -> TensorRef | None:
    tensor, scale, zero = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
    if tensor is None or scale is None or call.node.attributes.get("block_size"):
        return None
    axis = call.node.attributes.get("axis", 1)
    rank = len(tensor.shape)
    if not isinstance(axis, int):
        return None
    if scale.numel == 1:
        shape: tuple[int, ...] = (1,) * rank
    else:
        axis = 0 if rank == 1 else axis % rank
        shape = tuple(size if place == axis else 1 for place, size in enumerate(tensor.shape))
    if math.prod(shape) != scale.numel or (zero is not None and zero.numel != scale.numel):
        return None

    def compute() -> Sequence[float]:
        scales = broadcasted(scale.values(), shape, tensor.shape)
        zeros = broadcasted(zero.values(), shape, tensor.shape) if zero is not None else [0.0] * tensor.numel
        return [(value - offset) * factor for value, offset, factor in zip(tensor.values(), zeros, scales, strict=True)]

    return _new(scale.dtype, tensor.shape, compute)


FOLDS: dict[str, Callable[[Call, Inputs], TensorRef | None]] = {
    **dict.fromkeys(("Identity", "Dropout"), _identity),
    **dict.fromkeys(("Cast", "CastLike"), _cast),
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(UNARY, _unary),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Expand": _expand,
    "Concat": _concat,
    "DequantizeLinear": _dequantize,
}
"""What is computed on constants, by operator."""
