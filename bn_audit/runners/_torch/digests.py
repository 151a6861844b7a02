"""Fingerprints of the rows of a tensor along every axis that may hold the samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bn_audit.runners._torch.arrays import as_bits

if TYPE_CHECKING:
    import torch


_MULTIPLIER = -1640531535  # 2**32 divided by the golden ratio, as a signed number


@dataclass(frozen=True, slots=True)
class Layout:
    """One way in which the samples may lie in a tensor.

    Attributes:
        axis: The axis.
        blocks: Its size is the number of samples times this.
        inner: The samples are the faster part of the axis: row ``i`` lies at ``i``, ``i + B`` and so on.
    """

    axis: int
    blocks: int = 1
    inner: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """Fingerprints of one tensor.

    Attributes:
        by_layout: For each layout one number for each sample.
        whole: One for all of it where no layout fits, else 0.
    """

    shape: tuple[int, ...]
    by_layout: dict[Layout, tuple[int, ...]]
    whole: int


def rows_of(tensor: torch.Tensor, batch: int) -> Rows | None:
    """Return the fingerprints of a tensor; None where it has no elements to look at.

    Equal numbers mean equal bits but for about one case in 2**32, and for elements that changed places within a row.
    """
    import torch

    if not is_readable(tensor):
        return None
    mixed = _mixed(tensor)
    found: dict[Layout, tuple[int, ...]] = {}
    for axis, size in enumerate(tensor.shape):
        if size == 0 or size % batch:
            continue
        others = [other for other in range(mixed.ndim) if other != axis]
        along = mixed.sum(others, dtype=torch.int64) if others else mixed.to(torch.int64)
        if size == batch:
            found[Layout(axis)] = tuple(along.tolist())
        else:
            blocks = size // batch
            found[Layout(axis, blocks)] = tuple(along.view(batch, blocks).sum(1).tolist())
            found[Layout(axis, blocks, inner=True)] = tuple(along.view(blocks, batch).sum(0).tolist())
    return Rows(
        shape=tuple(tensor.shape), by_layout=found, whole=0 if found else int(mixed.sum(dtype=torch.int64).item())
    )


def is_readable(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has plain elements."""
    import torch

    return not (tensor.is_nested or tensor.layout is not torch.strided or tensor.is_meta or tensor.numel() == 0)


def row_of(tensor: torch.Tensor, layout: Layout, index: int, batch: int) -> torch.Tensor:
    """Return the elements of one sample."""
    moved = tensor.movedim(layout.axis, 0)
    if layout.inner:
        return moved.reshape(layout.blocks, batch, *moved.shape[1:])[:, index]
    return moved.reshape(batch, layout.blocks, *moved.shape[1:])[index]


def _mixed(tensor: torch.Tensor) -> torch.Tensor:
    """Return each element's bits as a 32-bit number that looks drawn at random, so that changes do not cancel in a sum.

    Elements of more bits give several numbers along one more axis.
    """
    import torch

    bits = as_bits(tensor)
    if bits.element_size() == 8:
        bits = bits.unsqueeze(-1).view(torch.int32)
    if bits.ndim > tensor.ndim + 1:
        bits = bits.flatten(tensor.ndim)
    mixed = bits.to(torch.int32) * _MULTIPLIER
    mixed ^= mixed >> 15
    return mixed
