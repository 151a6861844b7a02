"""How far the companions move the probe's rows, layer by layer."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING

from bn_audit.runners._torch.colours import Key, Pass, is_apart
from bn_audit.runners._torch.digests import Layout, Rows, row_of
from bn_audit.runners._torch.keeping import Keeper
from bn_audit.subject.observation import LayerEffect, Place

if TYPE_CHECKING:
    import torch


MOST_ELEMENTS = 1 << 15
"""Elements of a layer's row that are kept; of a longer row every n-th."""


class Effects:
    """Compares the probe's row of each layer in two runs.

    Args:
        index: The probe's row.
        layers: Paths to look at.
    """

    def __init__(self, index: int, batch: int, layers: Container[str]) -> None:
        self._index = index
        self._batch = batch
        self._layers = layers
        self._rows: dict[Key, torch.Tensor] = {}
        self.found: dict[Key, float] = {}
        self._keeper = Keeper()

    def base(self, key: Key, rows: Rows, tensor: torch.Tensor) -> None:
        """See a result of the base."""
        if key.path in self._layers and rows.by_layout:
            self._rows[key] = self._keeper.keep(self._row(rows, tensor))

    def companions(self, key: Key, rows: Rows, tensor: torch.Tensor) -> None:
        """See a result of the run with other companions."""
        before = self._rows.pop(key, None)
        if before is not None and rows.by_layout:
            after = self._row(rows, tensor)
            if after.shape == before.shape:
                self.found[key] = relative_change(before, after)

    def _row(self, rows: Rows, tensor: torch.Tensor) -> torch.Tensor:
        plain = tensor.dequantize() if tensor.is_quantized else tensor
        row = row_of(plain, likely_layout(rows), self._index, self._batch).reshape(-1)
        return row[:: max(1, row.numel() // MOST_ELEMENTS)]


def likely_layout(rows: Rows) -> Layout:
    """Return the layout to take where several fit: the first axis of just the right size."""
    return min(rows.by_layout, key=lambda layout: (layout.blocks > 1, layout.axis, layout.inner))


def profile(
    passes: tuple[Pass, Pass, Pass],
    effects: Mapping[Key, float],
    *,
    index: int,
    layers: Container[str],
    norms: Container[str],
) -> tuple[LayerEffect, ...]:
    """Return the effect of the companions on each layer, in the order of execution.

    Args:
        passes: Of the base, of the companions, of the probe.
        layers: Paths to report.
        norms: Those of norm layers.
    """
    base, companions, probe = passes
    by_path: dict[str, tuple[float, Place]] = {}
    for key in base.rows:
        if key.path in layers:
            moves = _moves(base.rows[key], companions.rows.get(key), probe.rows.get(key), index)
            effect = effects.get(key, 0.0) if moves else 0.0
            by_path[key.path] = max(effect, by_path.get(key.path, (0.0, None))[0]), base.places[key]
    return tuple(
        LayerEffect(path=path, effect=effect, type_name=place.type_name, is_norm=path in norms)
        for path, (effect, place) in by_path.items()
    )


def _moves(base: Rows, companions: Rows | None, probe: Rows | None, index: int) -> bool:
    """Return whether the companions change the probe's row, in every layout that keeps the samples apart."""
    if companions is None or probe is None or not companions.shape == probe.shape == base.shape:
        return False
    return not any(is_apart(base, companions, probe, layout, index) for layout in base.by_layout)


def relative_change(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest change over the largest element; 1.0 at least where a value appears from nothing."""
    import torch

    wide = torch.complex128 if one.is_complex() else torch.float64
    before, after = one.to(wide), other.to(wide)
    same = (before == after) | (before.isnan() & after.isnan())
    change = torch.where(same, 0.0, (before - after).abs()).nan_to_num(nan=torch.inf, posinf=torch.inf)
    largest, scale = float(change.max()), float(before.abs().nan_to_num(0.0, 0.0, 0.0).max())
    if largest == 0.0:
        return 0.0
    return largest / scale if scale > 0.0 else 1.0
