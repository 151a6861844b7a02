"""What a layer takes: the shape and element type of its input, from its own settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bn_audit.runners._torch.arrays import dtype_name

if TYPE_CHECKING:
    import torch
    from torch import nn


IMAGE_SIZES = (64, 32, 224, 96, 28, 16, 128, 299, 256, 8)
"""Side lengths in the order in which they are tried; 64 suits most networks that end in a pooling over the image."""

LENGTHS = (64, 16, 128, 1000, 256, 32)
"""Lengths of one-dimensional inputs and sequences."""

TOKENS = 16
CHANNELS_OF_LAZY = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What one layer takes, without the batch axis.

    Attributes:
        shapes: The most likely first.
        highest: One more than the largest value of an integer input; None for floating point.
        origin: Words for the layer, such as ``Conv2d 'stem'``.
    """

    shapes: tuple[tuple[int, ...], ...]
    dtype: str
    origin: str
    highest: int | None = None


def wanted_by(module: nn.Module, path: str, dtype: torch.dtype) -> Wanted | None:
    """Return what a layer takes; None where it takes anything."""
    sizes = tuple(_shapes(module))
    if not sizes:
        return None
    name = str(getattr(module, "original_name", type(module).__name__))
    origin = f"{name} {path!r}" if path else name
    if _is_table(module):
        rows = getattr(module, "num_embeddings", None) or _weight(module).shape[0]
        return Wanted(shapes=sizes, dtype="int64", origin=origin, highest=int(rows))
    weight = next((parameter for parameter in module.parameters() if parameter.is_floating_point()), None)
    return Wanted(shapes=sizes, dtype=dtype_name(weight.dtype if weight is not None else dtype), origin=origin)


def _shapes(module: nn.Module) -> Iterator[tuple[int, ...]]:
    """Yield shapes of one sample by the kind of the layer; for TorchScript, by the name of its class."""
    from torch import nn

    kind = str(getattr(module, "original_name", type(module).__name__))
    rank = _convolution_rank(module, kind)
    if rank is not None:
        channels = _channels(module, kind)
        yield from grids(channels, rank)
        if "Transpose" in kind:
            yield (channels, *(1,) * rank)  # noise, as generators take it
            yield (channels,)
    elif _is_table(module):
        yield from ((length,) for length in (TOKENS, 64, 128, 8))
        yield ()
    elif kind in {"Linear", "LazyLinear", "NonDynamicallyQuantizableLinear"} or isinstance(module, nn.Linear):
        width = _setting(module, "in_features", 1)
        yield (width,)
        yield (TOKENS, width)
    elif isinstance(module, nn.RNNCellBase):
        yield (_setting(module, "input_size", 1, weight="weight_ih"),)
    elif isinstance(module, nn.RNNBase) or kind in {"LSTM", "GRU", "RNN"}:
        width = _setting(module, "input_size", 1, weight="weight_ih_l0")
        yield from ((length, width) for length in (TOKENS, 64))
    elif isinstance(module, nn.MultiheadAttention) or kind == "MultiheadAttention":
        yield (TOKENS, _setting(module, "embed_dim", 1))
    elif isinstance(module, nn.LayerNorm):
        yield (TOKENS, *module.normalized_shape)
        yield tuple(module.normalized_shape)
    else:
        yield from _norm_shapes(module)


def _norm_shapes(module: nn.Module) -> Iterator[tuple[int, ...]]:
    """Yield shapes for a batch, instance or group norm that comes first."""
    from torch.nn.parameter import is_lazy

    width = getattr(module, "num_features", None) or getattr(module, "num_channels", None)
    mean = dict(module.named_buffers(recurse=False)).get("running_mean")
    if not isinstance(width, int):
        width = int(mean.numel()) if mean is not None and not is_lazy(mean) else None
    if width is None:
        return
    kind = str(getattr(module, "original_name", type(module).__name__))
    if "3d" in kind:
        yield from grids(width, 3)
    elif "1d" in kind:
        yield (width,)
        yield from grids(width, 1)
    else:
        yield from grids(width, 2)
        yield (width,)


def grids(channels: int, rank: int) -> Iterator[tuple[int, ...]]:
    """Yield shapes of signals, images or volumes with this many channels."""
    if rank == 1:
        yield from ((channels, length) for length in LENGTHS)
    elif rank == 2:
        yield from ((channels, side, side) for side in IMAGE_SIZES)
    else:
        yield from ((channels, side, side, side) for side in (16, 32, 64, 8))
        yield from ((channels, 8, side, side) for side in (64, 112, 32))


def _convolution_rank(module: nn.Module, kind: str) -> int | None:
    import torch
    from torch.nn.parameter import is_lazy

    if not hasattr(module, "kernel_size") and "Conv" not in kind:
        return None
    for rank in (1, 2, 3):
        if f"Conv{rank}d" in kind or f"ConvTranspose{rank}d" in kind or _extends_convolution(module, rank):
            return rank
    weight = getattr(module, "weight", None)
    if "Conv" in kind and isinstance(weight, torch.Tensor) and not is_lazy(weight) and weight.ndim in (3, 4, 5):
        return weight.ndim - 2
    return None


def _extends_convolution(module: nn.Module, rank: int) -> bool:
    from torch import nn

    kinds = {1: (nn.Conv1d, nn.ConvTranspose1d), 2: (nn.Conv2d, nn.ConvTranspose2d)}.get(
        rank, (nn.Conv3d, nn.ConvTranspose3d)
    )
    return isinstance(module, kinds)


def _channels(module: nn.Module, kind: str) -> int:
    import torch
    from torch.nn.parameter import is_lazy

    stated = getattr(module, "in_channels", None)
    if isinstance(stated, int) and stated > 0:
        return stated
    weight = getattr(module, "weight", None)
    if isinstance(weight, torch.Tensor) and not is_lazy(weight):
        groups = getattr(module, "groups", 1)
        return int(
            weight.shape[0] if "Transpose" in kind else weight.shape[1] * (groups if isinstance(groups, int) else 1)
        )
    return CHANNELS_OF_LAZY


def _setting(module: nn.Module, name: str, axis: int, weight: str = "weight") -> int:
    stated = getattr(module, name, None)
    if isinstance(stated, int) and stated > 0:
        return stated
    held = _weight(module, weight)
    return int(held.shape[axis]) if held.ndim > axis else TOKENS


def _weight(module: nn.Module, name: str = "weight") -> torch.Tensor:
    import torch
    from torch.nn.parameter import is_lazy

    weight = getattr(module, name, None)
    weight = weight() if callable(weight) else weight  # of quantised layers
    if isinstance(weight, torch.Tensor) and not is_lazy(weight):
        return weight
    return torch.empty(0)


def _is_table(module: nn.Module) -> bool:
    from torch import nn

    kind = str(getattr(module, "original_name", type(module).__name__))
    return isinstance(module, nn.Embedding | nn.EmbeddingBag) or kind in {"Embedding", "EmbeddingBag"}
