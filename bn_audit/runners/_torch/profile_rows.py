"""How far the companions move the probe's rows, layer by layer."""

from __future__ import annotations

from collections.abc import Container, Mapping

import torch

from bn_audit.runners._torch.colours import Key, Pass, Runner, is_apart
from bn_audit.runners._torch.digests import Layout, Rows, row_of
from bn_audit.subject.observation import LayerEffect, Place

STORE_BYTES = 192 << 20
"""Memory for the probe's rows of all layers; beyond it every n-th element is looked at."""


def profile(
    passes: tuple[Pass, Pass, Pass],
    runs: tuple[Runner, Runner],
    *,
    index: int,
    batch: int,
    layers: Container[str],
    norms: Container[str],
) -> tuple[LayerEffect, ...]:
    """Return the effect of the companions on each layer, in the order of execution.

    Args:
        passes: Of the base, of the companions, of the probe.
        runs: Of the base and of the companions.
        layers: Paths to report.
        norms: Those of norm layers.
    """
    base, companions, probe = passes
    keys = [key for key in base.rows if key.path in layers]
    moved = {
        key: layout
        for key in keys
        if (layout := _moved_in(base.rows[key], companions.rows.get(key), probe.rows.get(key), index)) is not None
    }
    effects = _measured(moved, {key: base.rows[key] for key in moved}, runs, index=index, batch=batch)
    by_path: dict[str, tuple[float, Place]] = {}
    for key in keys:
        effect = max(effects.get(key, 0.0), by_path.get(key.path, (0.0, None))[0])
        by_path[key.path] = effect, base.places[key]
    return tuple(
        LayerEffect(path=path, effect=effect, type_name=place.type_name, is_norm=path in norms)
        for path, (effect, place) in by_path.items()
    )


def _moved_in(base: Rows, companions: Rows | None, probe: Rows | None, index: int) -> Layout | None:
    """Return the layout in which the companions change the probe's row; None where they leave it alone."""
    if companions is None or companions.shape != base.shape or not base.by_layout:
        return None
    same_shape = probe is not None and probe.shape == base.shape
    if same_shape and any(is_apart(base, companions, probe or base, layout, index) for layout in base.by_layout):
        return None
    ranked = sorted(base.by_layout, key=lambda layout: (layout.blocks > 1, layout.axis, layout.inner))
    changed = [layout for layout in ranked if base.by_layout[layout][index] != companions.by_layout[layout][index]]
    return changed[0] if changed else None


def _measured(
    moved: Mapping[Key, Layout],
    rows: Mapping[Key, Rows],
    runs: tuple[Runner, Runner],
    *,
    index: int,
    batch: int,
) -> dict[Key, float]:
    elements = sum(torch.Size(rows[key].shape).numel() // batch for key in moved)
    stride = max(1, -(-elements * 4 // STORE_BYTES))
    kept: dict[Key, torch.Tensor] = {}
    effects: dict[Key, float] = {}

    def row(key: Key, tensor: torch.Tensor) -> torch.Tensor:
        return row_of(tensor.detach(), moved[key], index, batch).reshape(-1)[::stride].clone()

    def keep(key: Key, _place: Place, tensor: torch.Tensor) -> None:
        if key in moved and tuple(tensor.shape) == rows[key].shape:
            kept[key] = row(key, tensor)

    def compare(key: Key, _place: Place, tensor: torch.Tensor) -> None:
        if key in kept and tuple(tensor.shape) == rows[key].shape:
            effects[key] = relative_change(kept.pop(key), row(key, tensor))

    if moved:
        runs[0](keep)
        runs[1](compare)
    return effects


def relative_change(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest change over the largest element; 1.0 at least where a value appears from nothing."""
    wide = torch.complex128 if one.is_complex() else torch.float64
    before, after = one.to(wide), other.to(wide)
    same = (before == after) | (before.isnan() & after.isnan())
    change = torch.where(same, 0.0, (before - after).abs()).nan_to_num(nan=torch.inf, posinf=torch.inf)
    largest, scale = float(change.max()), float(before.abs().nan_to_num(0.0, 0.0, 0.0).max())
    if largest == 0.0:
        return 0.0
    return largest / scale if scale > 0.0 else 1.0
