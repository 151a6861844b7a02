"""Fingerprints of the rows of a tensor along every axis that may hold the samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bn_audit.runners._torch.arrays import as_bits

_MULTIPLIER = -7046029254386353131  # 2**64 divided by the golden ratio, as a signed number
_SECOND = -4658895280553007687


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
        whole: One for all of it.
    """

    shape: tuple[int, ...]
    by_layout: dict[Layout, tuple[int, ...]]
    whole: int


def rows_of(tensor: torch.Tensor, batch: int) -> Rows | None:
    """Return the fingerprints of a tensor; None where it has no elements to look at.

    Equal numbers mean equal bits but for one case in 2**64, and for elements that changed places within a row.
    """
    if not is_readable(tensor):
        return None
    mixed = _mixed(as_bits(tensor))
    if tensor.is_complex():
        mixed = mixed.sum(-1)
    found: dict[Layout, tuple[int, ...]] = {}
    for axis, size in enumerate(tensor.shape):
        if size == 0 or size % batch:
            continue
        others = [other for other in range(tensor.ndim) if other != axis]
        along = mixed.sum(others) if others else mixed
        if size == batch:
            found[Layout(axis)] = tuple(along.tolist())
        else:
            blocks = size // batch
            found[Layout(axis, blocks)] = tuple(along.view(batch, blocks).sum(1).tolist())
            found[Layout(axis, blocks, inner=True)] = tuple(along.view(blocks, batch).sum(0).tolist())
    return Rows(shape=tuple(tensor.shape), by_layout=found, whole=int(mixed.sum().item()))


def is_readable(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has plain elements."""
    return not (tensor.is_nested or tensor.layout is not torch.strided or tensor.is_meta or tensor.numel() == 0)


def row_of(tensor: torch.Tensor, layout: Layout, index: int, batch: int) -> torch.Tensor:
    """Return the elements of one sample."""
    moved = tensor.movedim(layout.axis, 0)
    if layout.inner:
        return moved.reshape(layout.blocks, batch, *moved.shape[1:])[:, index]
    return moved.reshape(batch, layout.blocks, *moved.shape[1:])[index]


def _mixed(bits: torch.Tensor) -> torch.Tensor:
    """Return each element's bits as a number that looks drawn at random, so that changes do not cancel in a sum."""
    mixed = bits.to(torch.int64) + 1
    mixed *= _MULTIPLIER
    mixed ^= mixed >> 31
    mixed *= _SECOND
    return mixed
