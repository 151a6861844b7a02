"""Shapes of intermediate values, as far as telling an InstanceNorm in disguise needs them.

TorchScript code records no shapes. The rank of a convolution's output is known, elementwise operators keep it, and
sizes are symbols, so that a reshape can be seen to keep whole samples together.
"""

from __future__ import annotations

from collections.abc import Sequence as Values

from bn_audit.flow.keepers import BATCH_NORMS, CASTS, ELEMENTWISE
from bn_audit.flow.placement import Size
from bn_audit.formats._torchscript.folding import to_size
from bn_audit.formats._torchscript.values import Sequence, Tensor, Value

Shape = tuple[Size, ...]

_CONVOLUTION_RANKS = {"conv1d": 3, "conv2d": 4, "conv3d": 5, "conv_transpose1d": 3}
_STRIDED = frozenset(("_convolution", "prim.mkldnn_convolution"))
_STRIDES_AT = 3
_POOL_SUFFIXES = {"1d": 3, "2d": 4, "3d": 5}
_SAME_SHAPE = ELEMENTWISE | CASTS | {"to_mkldnn", "to_dense"}
_NORMS = BATCH_NORMS | {"instance_norm", "group_norm", "layer_norm", "softmax"}
_RESHAPES = frozenset(("view", "reshape"))
_LIKE = frozenset(("view_as", "reshape_as", "expand_as"))


def output_shape(op: str, arguments: Values[Value], name: str) -> Shape | None:
    """Return the shape of an operator's output; None where its rank is not known.

    Args:
        name: Of the output; new symbols begin with it.
    """
    tensors = [value for value in arguments if isinstance(value, Tensor)]
    first = tensors[0] if tensors else None
    if op in _RESHAPES and len(arguments) > 1 and isinstance(arguments[1], Sequence):
        return tuple(to_size(item) for item in arguments[1].items)
    if first is None:
        return None
    if op in _LIKE and len(tensors) > 1:
        return tensors[1].shape
    rank = _rank(op, arguments)
    if rank is not None:
        return _spatial(op, first, arguments, rank, name)
    if op in _NORMS:
        return first.shape
    return _common(tensors) if op in _SAME_SHAPE else None


def _rank(op: str, arguments: Values[Value]) -> int | None:
    strides = arguments[_STRIDES_AT] if len(arguments) > _STRIDES_AT else None
    if op in _STRIDED and isinstance(strides, Sequence):
        return len(strides.items) + 2
    if op in _CONVOLUTION_RANKS:
        return _CONVOLUTION_RANKS[op]
    if "_pool" in op or op.startswith(("conv_transpose", "upsample_")):
        return _POOL_SUFFIXES.get(op[-2:])
    return None


def _spatial(op: str, first: Tensor, arguments: Values[Value], rank: int, name: str) -> Shape:
    """Convolutions and pools: samples and channels in front, new sizes behind."""
    before = first.shape if first.shape is not None and len(first.shape) == rank else None
    channels: Size = before[1] if before else f"{first.name}[1]"
    if "conv" in op:
        weight = arguments[1] if len(arguments) > 1 else None
        stored = weight.shape if isinstance(weight, Tensor) and "transpose" not in op else None
        channels = stored[0] if stored else f"{name}[1]"
    batch = before[0] if before else f"{first.name}[0]"
    return (batch, channels, *(f"{name}[{axis}]" for axis in range(2, rank)))


def _common(tensors: Values[Tensor]) -> Shape | None:
    """Elementwise operators: equal shapes stay equal, and stored tensors that only repeat change nothing."""
    computed = [tensor.shape for tensor in tensors if tensor.slot is None]
    shape = computed[0] if computed else None
    if shape is None or any(other != shape for other in computed):
        return None
    stored = [tensor.shape for tensor in tensors if tensor.slot is not None]
    return shape if all(other is not None and _repeats(other, shape) for other in stored) else None


def _repeats(shape: Shape, over: Shape) -> bool:
    if len(shape) > len(over):
        return False
    return all(size in (1, of) for size, of in zip(reversed(shape), reversed(over), strict=False))
