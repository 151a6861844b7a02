"""Models in another precision, or with their weights moved by one unit in the last place."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from bn_audit.runners._torch.arrays import dtype_named

if TYPE_CHECKING:
    import torch


_DOUBLES = {
    "float32": "float64",
    "float16": "float64",
    "bfloat16": "float64",
    "complex64": "complex128",
    "complex32": "complex128",
}

Kind = TypeVar("Kind", "torch.Tensor", "torch.nn.Module")


def as_double(value: Kind) -> Kind:
    """Return a tensor, or a module changed in place, in double precision; integers stay."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.to(_doubles().get(value.dtype, value.dtype))
    convert_held(value, _doubles())
    return value


def _doubles() -> dict[torch.dtype, torch.dtype]:
    return {dtype_named(lower): dtype_named(higher) for lower, higher in _DOUBLES.items()}


def convert_held(module: torch.nn.Module, types: dict[torch.dtype, torch.dtype]) -> None:
    """Convert every parameter, buffer and tensor in a plain attribute of a module, in place."""
    import torch

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
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.is_floating_point() and not torch.nn.parameter.is_lazy(parameter):
                parameter.data = _jittered(parameter.data, generator)
    return module


def _jittered(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    import torch

    signs = torch.randint(0, 2, tensor.shape, generator=generator).mul_(2).sub_(1).to(tensor.device)
    if tensor.dtype in (torch.float32, torch.float64):
        return torch.nextafter(tensor, signs.to(tensor.dtype) * torch.inf)
    step = torch.finfo(tensor.dtype).eps
    return (tensor.float() * (1 + signs * step)).to(tensor.dtype)
