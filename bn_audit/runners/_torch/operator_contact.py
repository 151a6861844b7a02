"""Which operator of a TorchScript program sees which input first, told by the weights that it is called with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from bn_audit.runners._torch.arrays import dtype_name, dtype_named
from bn_audit.runners._torch.calling import Parameters, said_errors
from bn_audit.runners._torch.shapes import TOKENS, Wanted, grids
from bn_audit.runners._torch.surroundings import seeded, undisturbed
from bn_audit.runners._torch.watching import Origins, Watch, tensors_of

if TYPE_CHECKING:
    import torch


TRIAL_BATCH = 2
NORMS = ("batch_norm", "_native_batch_norm_legit", "instance_norm")


def wanted_by_operators(
    module: torch.nn.Module,
    parameters: Parameters,
    shapes: Mapping[str, tuple[tuple[int, ...], str]],
    device: torch.device,
) -> dict[str, Wanted]:
    """Return what each input must look like by the first operator with weights that it reaches.

    Args:
        shapes: Shape without the batch axis, and element type, with which each input is sent in.
    """
    import torch

    inputs = {
        name: torch.ones((TRIAL_BATCH, *shape), dtype=dtype_named(dtype), device=device)
        for name, (shape, dtype) in shapes.items()
    }
    origins = Origins(inputs)
    found: dict[str, Wanted] = {}

    def before(func: Any, arguments: Sequence[object]) -> None:
        for tensor in tensors_of(arguments):
            for name in origins.of(tensor) - found.keys():
                wanted = _wanted(str(func), arguments, tensor)
                if wanted is not None:
                    found[name] = wanted

    arguments, named = parameters.bind(inputs)
    with undisturbed(), seeded(0), Watch(origins.see, before):
        said_errors(lambda: module(*arguments, **named))
    return found


def _wanted(operator: str, arguments: Sequence[object], tensor: torch.Tensor) -> Wanted | None:
    """Return what this operator takes in place of `tensor`; None where it takes anything."""
    name = operator.removeprefix("aten.").partition(".")[0]
    read = _READERS.get(name) or (_norm if name.endswith(NORMS) or name.startswith(NORMS) else None)
    found = read(arguments, tensor) if read is not None else None
    if found is None:
        return None
    shapes, highest, weight = found
    dtype = "int64" if highest is not None else dtype_name(weight.dtype)
    return Wanted(shapes=tuple(shapes), dtype=dtype, highest=highest, origin=name)


Reading: TypeAlias = "tuple[Iterator[tuple[int, ...]], int | None, torch.Tensor] | None"


def _convolution(arguments: Sequence[object], tensor: torch.Tensor) -> Reading:
    import torch

    weight = arguments[1]
    if not isinstance(weight, torch.Tensor) or arguments[0] is not tensor:
        return None
    transposed, groups = arguments[6], arguments[8]
    channels = weight.shape[0] if transposed else weight.shape[1] * (groups if isinstance(groups, int) else 1)
    return grids(int(channels), weight.ndim - 2), None, weight


def _product(arguments: Sequence[object], tensor: torch.Tensor) -> Reading:
    tensors = list(tensors_of(arguments))
    if len(tensors) < 2 or tensors[-2] is not tensor or tensors[-1].ndim != 2:
        return None
    width = int(tensors[-1].shape[0])
    return iter(((width,), (TOKENS, width))), None, tensors[-1]


def _table(arguments: Sequence[object], _tensor: torch.Tensor) -> Reading:
    import torch

    weight = arguments[0]
    if not isinstance(weight, torch.Tensor):
        return None
    return iter(((TOKENS,), (64,), (128,), (8,), ())), int(weight.shape[0]), weight


def _norm(arguments: Sequence[object], tensor: torch.Tensor) -> Reading:
    weights = [item for item in tensors_of(arguments[1:]) if item.ndim == 1]
    if not weights or arguments[0] is not tensor:
        return None
    width = int(weights[0].numel())
    rank = max(tensor.ndim - 2, 0)
    shapes = grids(width, rank) if 1 <= rank <= 3 else iter(((width,),))
    return shapes, None, weights[0]


def _layer_norm(arguments: Sequence[object], tensor: torch.Tensor) -> Reading:
    sizes = arguments[1]
    if not isinstance(sizes, list | tuple) or arguments[0] is not tensor:
        return None
    shape = tuple(int(size) for size in sizes)
    return iter(((TOKENS, *shape), shape)), None, tensor


_READERS: dict[str, Callable[[Sequence[object], torch.Tensor], Reading]] = {
    "convolution": _convolution,
    "_convolution": _convolution,
    "addmm": _product,
    "mm": _product,
    "embedding": _table,
    "native_layer_norm": _layer_norm,
}
