"""Models in another precision, or with their weights moved by one unit in the last place."""

from __future__ import annotations

from typing import TypeVar

import torch

_HIGHER = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
    torch.complex32: torch.complex128,
}

Kind = TypeVar("Kind", torch.Tensor, torch.nn.Module)


def as_double(value: Kind) -> Kind:
    """Return a tensor, or a module changed in place, in double precision; integers stay."""
    if isinstance(value, torch.Tensor):
        return value.to(_HIGHER.get(value.dtype, value.dtype))
    convert_held(value, _HIGHER)
    return value


def convert_held(module: torch.nn.Module, types: dict[torch.dtype, torch.dtype]) -> None:
    """Convert every parameter, buffer and tensor in a plain attribute of a module, in place."""

    def converted(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(types.get(tensor.dtype, tensor.dtype))

    module._apply(converted)
    if isinstance(module, torch.jit.ScriptModule):
        return
    for child in module.modules():
        for name, value in vars(child).items():
            if isinstance(value, torch.Tensor) and value.dtype in types:
                setattr(child, name, converted(value.detach()))


def jittered(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Return the module with every floating-point parameter moved by one unit in the last place, up or down."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.is_floating_point() and not torch.nn.parameter.is_lazy(parameter):
                parameter.data = _jittered(parameter.data, generator)
    return module


def _jittered(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    signs = torch.randint(0, 2, tensor.shape, generator=generator).mul_(2).sub_(1).to(tensor.device)
    if tensor.dtype in (torch.float32, torch.float64):
        return torch.nextafter(tensor, signs.to(tensor.dtype) * torch.inf)
    step = torch.finfo(tensor.dtype).eps
    return (tensor.float() * (1 + signs * step)).to(tensor.dtype)
