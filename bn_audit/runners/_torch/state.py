"""The stored tensors of a module: what a run may change, by name and by bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from bn_audit.runners._torch.arrays import same_bits

if TYPE_CHECKING:
    import torch


def held_tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return every buffer, and every tensor that a module keeps as a plain attribute, by its dotted name."""
    import torch
    from torch.nn.parameter import is_lazy

    found = dict(module.named_buffers(remove_duplicate=False))
    if not isinstance(module, torch.jit.ScriptModule):
        for path, child in module.named_modules():
            for name, value in vars(child).items():
                if isinstance(value, torch.Tensor):
                    found[f"{path}.{name}" if path else name] = value
    return {name: tensor for name, tensor in found.items() if not is_lazy(tensor)}


def differing(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """Return the names whose tensors are other ones, by bits."""
    names = [*before, *(name for name in after if name not in before)]
    return tuple(
        name for name in names if name not in before or name not in after or not same_bits(before[name], after[name])
    )


def rewritten(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """Return the names whose stored tensors are other ones: a table that the first call makes was not stored."""
    return tuple(name for name in differing(before, after) if name in before)


def plain_parameters(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the parameters that have values, each once."""
    from torch.nn.parameter import is_lazy

    return {name: parameter for name, parameter in module.named_parameters() if not is_lazy(parameter)}


def fingerprints(tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Return a sum over the bits of each tensor: one pass over the memory, without a copy.

    The count of writes would not do: ``tensor.data`` writes without counting. It stands in where a tensor has no plain
    memory.
    """
    totals: dict[int, torch.Tensor] = {}
    places = {name: _place(tensor) for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        if places[name] and places[name] not in totals:
            totals[places[name]] = _sum_of_bits(tensor)
    values = {place: int(total.item()) for place, total in totals.items()}
    return {name: values.get(places[name], tensor._version) for name, tensor in tensors.items()}


def _place(tensor: torch.Tensor) -> int:
    """Return the address of a tensor's storage; 0 where it has none that can be read."""
    import torch

    if tensor.is_meta or tensor.layout is not torch.strided or tensor.is_quantized:
        return 0
    return tensor.untyped_storage().data_ptr()


def _sum_of_bits(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    storage = tensor.untyped_storage()
    size = storage.nbytes()
    memory = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage, 0, (size,), (1,))
    whole = size - size % 8
    rest = memory[whole:].sum(dtype=torch.int64)
    return memory[:whole].view(torch.int64).sum() + rest * 31 if whole else rest


def restore(target: Mapping[str, torch.Tensor], saved: Mapping[str, torch.Tensor], names: Sequence[str]) -> None:
    """Write saved values back into the tensors of these names."""
    import torch

    with torch.no_grad():
        for name in names:
            if name in target and name in saved and target[name].shape == saved[name].shape:
                target[name].data.copy_(saved[name])


def own_copies(module: torch.nn.Module) -> Iterator[tuple[object, object]]:
    """Yield what ``copy.deepcopy`` refuses, with its copies.

    Weight and spectral normalisation by hooks keep a tensor that autograd made; samplers keep a generator; lazy norm
    layers wait for the shape of their buffers.
    """
    import torch
    from torch.nn.parameter import UninitializedBuffer

    for child in module.modules():
        for buffer in child._buffers.values():
            if isinstance(buffer, UninitializedBuffer):
                make: Callable[..., object] = UninitializedBuffer  # its annotations name other arguments
                yield buffer, make(buffer.requires_grad, buffer.device, buffer.dtype)
        for value in vars(child).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                yield value, value.detach().clone()
            elif isinstance(value, torch.Generator):
                generator = torch.Generator(device=value.device)
                generator.set_state(value.get_state())
                yield value, generator
