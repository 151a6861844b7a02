"""Where samples meet: runs with two colours, one of the companions and one of the probe.

A place is mixed where, in no way in which the samples may lie in its tensor, a change of the companions leaves the
probe's row alone and a change of the probe leaves the others alone. Elements that answer to both colours were combined
there; rows that only lie elsewhere were moved. Only fingerprints of rows are kept, and the tensors of mixed places
within a budget, so that the memory does not grow with the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from bn_audit.runners._torch.arrays import as_bits
from bn_audit.runners._torch.digests import Layout, Rows, is_readable, rows_of
from bn_audit.runners._torch.outputs import tensors_in
from bn_audit.runners._torch.watching import Tensors, Watch
from bn_audit.runners._torch.whereabouts import Whereabouts
from bn_audit.subject.observation import Place

WINDOW_BYTES = 192 << 20
"""Memory for the tensors of mixed places that are compared element by element."""

MAX_WINDOWS = 4


@dataclass(frozen=True, slots=True)
class Key:
    """One result of one call: the n-th of this operator (or of the module itself) in this module."""

    path: str
    operator: str
    occurrence: int
    output: str


@dataclass(slots=True)
class Pass:
    """What one run showed, in the order of execution."""

    rows: dict[Key, Rows] = field(default_factory=dict)
    places: dict[Key, Place] = field(default_factory=dict)


Visit = Callable[[Key, Place, torch.Tensor], None]
Runner = Callable[[Visit], None]
"""Runs the model on one of the batches and visits every result."""


def visitor(module: torch.nn.Module, visit: Visit) -> tuple[Whereabouts, Watch]:
    """Return what follows a run and visits the results of its operators and modules.

    Views hold no new values, and ``empty`` none at all.
    """
    counts: dict[tuple[str, str], int] = {}

    def key(path: str, operator: str, output: str) -> Key:
        return Key(path, operator, counts[path, operator], output)

    def left(path: str, _child: torch.nn.Module, output: object) -> None:
        counts[path, ""] = counts.get((path, ""), -1) + 1
        with watch.paused():
            for name, value in tensors_in(output):
                if isinstance(value, torch.Tensor):
                    visit(key(path, "", name), where.place(), value)

    where = Whereabouts(module, on_leave=left)

    def see(func: Any, inputs: Tensors, outputs: Tensors) -> None:
        operator = str(func)
        if "empty" in operator or is_view(func):
            return
        place = where.place(operator, inputs)
        counts[place.path, operator] = counts.get((place.path, operator), -1) + 1
        for index, tensor in enumerate(outputs):
            visit(key(place.path, operator, str(index)), place, tensor)

    watch = Watch(see)
    return where, watch


def is_view(func: Any) -> bool:
    """Return whether an operator only looks at its input otherwise."""
    returns = func._schema.returns
    return bool(returns) and all(item.alias_info is not None and not item.alias_info.is_write for item in returns)


def record(run: Runner, batch: int) -> Pass:
    """Return the fingerprints of one run."""
    found = Pass()

    def visit(key: Key, place: Place, tensor: torch.Tensor) -> None:
        rows = rows_of(tensor.detach(), batch)
        if rows is not None:
            found.rows[key] = rows
            found.places[key] = place

    run(visit)
    return found


def mixed_places(base: Pass, companions: Pass, probe: Pass, index: int) -> Iterator[Key]:
    """Yield the places where the samples are no longer apart, in order."""
    for key, rows in base.rows.items():
        others = companions.rows.get(key), probe.rows.get(key)
        if others[0] is None or others[1] is None or {others[0].shape, others[1].shape} != {rows.shape}:
            continue
        if rows.by_layout:
            if not any(is_apart(rows, others[0], others[1], layout, index) for layout in rows.by_layout):
                yield key
        elif rows.whole != others[0].whole and rows.whole != others[1].whole:
            yield key


def is_apart(base: Rows, companions: Rows, probe: Rows, layout: Layout, index: int) -> bool:
    """Return whether each sample has a row of its own in this layout."""
    own = base.by_layout[layout]
    under_companions, under_probe = companions.by_layout[layout], probe.by_layout[layout]
    return own[index] == under_companions[index] and all(
        one == other for row, (one, other) in enumerate(zip(own, under_probe, strict=True)) if row != index
    )


def combining_places(
    keys: list[Key], base: Runner, companions: Runner, probe: Runner, *, only_first: bool
) -> Iterator[Key]:
    """Yield those of the places whose elements answer to both colours, window by window.

    Args:
        only_first: Stop after the first window that holds one.
    """
    remaining = keys
    for _ in range(MAX_WINDOWS):
        if not remaining:
            return
        kept = _kept(set(remaining), base)
        found = _overlaps(kept, companions, probe)
        yield from (key for key in remaining if key in found)
        if only_first and found:
            return
        remaining = [key for key in remaining if key not in kept]


def _kept(wanted: set[Key], run: Runner) -> dict[Key, torch.Tensor]:
    """Return the bits of these places' tensors, as many as the window holds."""
    kept: dict[Key, torch.Tensor] = {}
    used = 0

    def visit(key: Key, _place: Place, tensor: torch.Tensor) -> None:
        nonlocal used
        if key in wanted and is_readable(tensor) and (used < WINDOW_BYTES or not kept):
            kept[key] = as_bits(tensor).clone()
            used += kept[key].nbytes + tensor.numel()

    run(visit)
    return kept


def _overlaps(kept: Mapping[Key, torch.Tensor], companions: Runner, probe: Runner) -> set[Key]:
    answered: dict[Key, torch.Tensor] = {}
    found: set[Key] = set()

    def first(key: Key, _place: Place, tensor: torch.Tensor) -> None:
        if key in kept and is_readable(tensor) and as_bits(tensor).shape == kept[key].shape:
            answered[key] = as_bits(tensor) != kept[key]

    def second(key: Key, _place: Place, tensor: torch.Tensor) -> None:
        if key in answered and is_readable(tensor) and as_bits(tensor).shape == kept[key].shape:
            both = (as_bits(tensor) != kept[key]) & answered[key]
            if bool(both.any()):
                found.add(key)

    companions(first)
    probe(second)
    return found
