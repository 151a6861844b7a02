"""What torch itself says about the norm layers of a live model, without a line of the audited package.

The kind of a layer follows from its class; whether it uses statistics of the batch is measured by running it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo import norms

ROLES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

_HANDMADE_KINDS = {
    norms.HandmadeNorm: "batch_norm",
    norms.InPlaceNorm: "batch_norm",
    norms.FrozenBatchNorm2d: "frozen_batch_norm",
}


@dataclass(frozen=True, kw_only=True)
class TrueTensor:
    """One tensor; `data` is None on the meta device."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | None


@dataclass(frozen=True, kw_only=True)
class TrueLayer:
    """One norm layer as torch sees it; a setting that its class does not have is None.

    A lazy layer that never saw a batch has no tensors but its counter.
    """

    path: str
    aliases: tuple[str, ...]
    registered: bool
    kind: str
    type_name: str
    training: bool
    uses_batch_statistics: bool
    num_features: int | None
    eps: float
    momentum: float | None
    cumulative: bool
    affine: bool | None
    track_running_stats: bool | None
    uninitialised: bool
    requires_grad: bool | None
    tensors: Mapping[str, TrueTensor]


def layers(model: nn.Module) -> list[TrueLayer]:
    """Return every norm layer of a model: the registered ones in torch's order, then those hidden in containers."""
    paths: dict[nn.Module, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        paths.setdefault(module, []).append(path)
    found = [_layer(module, names, registered=True) for module, names in paths.items() if kind_of(module)]
    for path, module in _hidden(model):
        if module not in paths:
            found.append(_layer(module, [path], registered=False))
    return found


def kind_of(module: nn.Module) -> str | None:
    """Return the kind of a norm layer, None for any other module."""
    if isinstance(module, nn.SyncBatchNorm):
        return "sync_batch_norm"
    if isinstance(module, nn.modules.instancenorm._InstanceNorm):
        return "instance_norm"
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return "batch_norm"
    return _HANDMADE_KINDS.get(type(module))


def tensor(value: Tensor) -> TrueTensor:
    """Return a tensor's dtype, shape and its elements as little-endian, row-major bytes."""
    dtype = str(value.dtype).removeprefix("torch.")
    data = None
    if not value.is_meta:
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return TrueTensor(dtype=dtype, shape=tuple(value.shape), data=data)


def _hidden(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the norm layers in plain lists and dicts that are attributes of a module."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name.startswith("_") or not isinstance(value, (list, dict)):
                continue
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            for key, item in pairs:
                if isinstance(item, nn.Module) and kind_of(item):
                    yield ".".join(part for part in (path, name, str(key)) if part), item


def _layer(module: nn.Module, paths: list[str], *, registered: bool) -> TrueLayer:
    tensors = {role: value for role in ROLES if isinstance(value := getattr(module, role, None), Tensor)}
    lazy = any(nn.parameter.is_lazy(value) for value in tensors.values())
    tensors = {role: value for role, value in tensors.items() if not nn.parameter.is_lazy(value)}
    learned = list(module.parameters(recurse=False))
    lengths = {len(value) for value in tensors.values() if value.dim() == 1}
    return TrueLayer(
        path=paths[0],
        aliases=tuple(paths[1:]),
        registered=registered,
        kind=str(kind_of(module)),
        type_name=f"{type(module).__module__}.{type(module).__qualname__}",
        training=module.training,
        uses_batch_statistics=_mixes_samples(module),
        num_features=None if lazy else getattr(module, "num_features", next(iter(lengths), None)),
        eps=module.eps,
        momentum=getattr(module, "momentum", None),
        cumulative="momentum" in vars(module) and module.momentum is None,
        affine=getattr(module, "affine", None),
        track_running_stats=getattr(module, "track_running_stats", None),
        uninitialised=lazy,
        requires_grad=any(value.requires_grad for value in learned) if learned else None,
        tensors={role: tensor(value) for role, value in tensors.items()},
    )


def _mixes_samples(module: nn.Module) -> bool:
    """Measure whether one sample's output from this layer depends on the other samples of its batch."""
    layer = copy.deepcopy(module) if not _is_lazy(module) else _same_lazy(module)
    if any(value.is_meta for value in layer.state_dict().values()):
        layer = layer.to_empty(device="cpu")
        layer.reset_parameters()
    dimensions = 2 if isinstance(layer, nn.BatchNorm1d) else 5 if isinstance(layer, nn.BatchNorm3d) else 4
    channels = layer.num_features if hasattr(layer, "num_features") else len(layer.running_mean)
    dtype = next((value.dtype for value in layer.state_dict().values() if value.is_floating_point()), torch.float32)
    generator = torch.Generator().manual_seed(0)
    shape = (4, channels, *[3] * (dimensions - 2))
    one = torch.randn(shape, generator=generator).to(dtype)
    other = (torch.randn(shape, generator=generator) * 7 + 3).to(dtype)
    other[0] = one[0]
    with torch.no_grad():
        first, second = copy.deepcopy(layer)(one)[0], copy.deepcopy(layer)(other)[0]
    return not torch.equal(first, second)


def _is_lazy(module: nn.Module) -> bool:
    return any(nn.parameter.is_lazy(value) for value in (*module.parameters(), *module.buffers()))


def _same_lazy(module: nn.Module) -> nn.Module:
    """Return a fresh lazy layer that has seen its first batch; lazy layers cannot be copied."""
    layer = type(module)(eps=module.eps, momentum=module.momentum)
    layer(torch.randn(2, 3, 3, 3))
    return layer.train(module.training)
