"""Copies of running statistics, and which of them moved since.

The version counter of a tensor does not tell: batch norm moves its statistics without touching it, and inference
tensors have none. So values are compared, bit by bit since a NaN may stand still too, after they were joined to a few
long tensors: one comparison of 27 000 numbers is cheaper than fifty of a hundred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bn_audit.live.layers import Keeper

if TYPE_CHECKING:
    import torch

Place = tuple[Keeper, str]
"""Where a statistic hangs, so that it can be read again after it was replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Statistics that are joined: those of one device, type and number of dimensions.

    Attributes:
        tensors: As they hung there; another one in the same place needs a closer look.
        sizes: Their numbers of elements.
        values: Their joined copy.
    """

    places: tuple[Place, ...]
    tensors: tuple[torch.Tensor, ...]
    sizes: tuple[int, ...]
    values: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The values of running statistics at one moment.

    Attributes:
        absent: Those that had no values yet: None, or of lazy layers.
    """

    groups: tuple[_Group, ...]
    absent: tuple[Place, ...]


def take(keepers: Sequence[Keeper]) -> Snapshot:
    """Return a copy of the values of all running statistics; its memory is theirs."""
    import torch

    alike: dict[tuple[object, object, int], list[tuple[Place, torch.Tensor]]] = {}
    absent: list[Place] = []
    for keeper in keepers:
        for name in keeper.names:
            tensor = _with_values(keeper.read(name))
            if tensor is None:
                absent.append((keeper, name))
            else:
                alike.setdefault((tensor.device, tensor.dtype, tensor.dim()), []).append(((keeper, name), tensor))
    with torch.no_grad():
        groups = tuple(_group(members) for members in alike.values())
    return Snapshot(groups=groups, absent=tuple(absent))


def moved(before: Snapshot) -> list[Place]:
    """Return the statistics whose values differ from the snapshot's, or that are new or gone."""
    import torch

    with torch.no_grad():
        changed = [place for group in before.groups for place in _moved_in(group)]
    return changed + [(keeper, name) for keeper, name in before.absent if _with_values(keeper.read(name)) is not None]


def _with_values(value: object) -> torch.Tensor | None:
    """Return a tensor that has values; None for anything else."""
    import torch

    if type(value) is torch.Tensor:
        return None if value.is_meta else value
    if not isinstance(value, torch.Tensor) or torch.nn.parameter.is_lazy(value) or value.is_meta:
        return None
    return value


def _group(members: Sequence[tuple[Place, torch.Tensor]]) -> _Group:
    tensors = tuple(tensor for _, tensor in members)
    return _Group(
        places=tuple(place for place, _ in members),
        tensors=tensors,
        sizes=tuple(tensor.numel() for tensor in tensors),
        values=_joined(tensors),
    )


def _moved_in(group: _Group) -> list[Place]:
    import torch

    now = [keeper.read(name) for keeper, name in group.places]
    if all(value is old for value, old in zip(now, group.tensors, strict=True)):
        values = _joined(group.tensors)
        if values.device == group.values.device and _same_bits(values, group.values):
            return []
    parts = torch.split_with_sizes(group.values.reshape(-1), list(group.sizes))
    return [
        place
        for place, value, old in zip(group.places, now, parts, strict=True)
        if (tensor := _with_values(value)) is None or not _same_bits(tensor.reshape(-1).to(old), old)
    ]


def _joined(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    import torch

    match tensors[0].dim():
        case 0:
            return torch.stack(list(tensors))
        case 1:
            return torch.cat(list(tensors))
        case _:
            return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    import torch

    if one.shape != other.shape:
        return False
    if torch.equal(one, other):
        return True
    return torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))
