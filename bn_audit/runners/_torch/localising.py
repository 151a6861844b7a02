"""Names the first layer and operator at which samples meet."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bn_audit.runners._torch.colours import (
    Key,
    Pass,
    Runner,
    Window,
    combining_places,
    leading_to_outputs,
    mixed_places,
    record,
)
from bn_audit.runners._torch.layers import norm_layers
from bn_audit.runners._torch.profile_rows import Effects, profile
from bn_audit.subject.observation import Place
from bn_audit.subject.run import Localisation

if TYPE_CHECKING:
    import torch


MAX_OVERLAPS = 100


def localise(runs: tuple[Runner, Runner, Runner], module: torch.nn.Module, *, index: int, batch: int) -> Localisation:
    """Return where samples meet.

    Args:
        runs: On the base, with other companions, with another probe.
        module: The model, for the names of its layers; it is not run.
        index: The probe's row.
        batch: Number of samples.
    """
    layers, norms = _layers(module)
    effects = Effects(index, batch, layers)
    base = record(runs[0], batch, effects.base)
    window = Window(base, index)
    companions = record(runs[1], batch, effects.companions, window.companions)
    probe = record(runs[2], batch, window.probe)
    keys = list(mixed_places(base, companions, probe, index))
    order = {key: rank for rank, key in enumerate(base.rows)}
    operators = [key for key in keys if key.operator]
    leading = leading_to_outputs(base, keys)
    overlaps = window.overlaps(runs[0])
    combining = [key for key in operators if key in overlaps]
    beyond = [key for key in operators if key not in window.keys]
    if not combining and beyond:
        combining = combining_places(beyond, runs, base, index, batch)
    moved = [key for key in keys if not key.operator and base.rows[key].by_layout]
    first, combined = _first(moved, _these(combining, leading), _these(operators, leading), order, base)
    return Localisation(
        first=first,
        combined=combined,
        profile=profile((base, companions, probe), effects.found, index=index, layers=layers, norms=norms),
        overlaps=_overlaps(combining, moved, order, base),
    )


def _these(keys: list[Key], leading: set[Key]) -> list[Key]:
    """Return the places that lead to an output; all where nothing is known to."""
    return [key for key in keys if key in leading] if leading else keys


def _first(
    moved: list[Key], combining: list[Key], operators: list[Key], order: dict[Key, int], base: Pass
) -> tuple[Place | None, Place | None]:
    """Return the first place and, where rows only move there, the place that combines them.

    A module that returns before any operator combines two samples has moved rows.
    """
    combined = base.places[combining[0]] if combining else None
    start = _start_of_moving(combining, operators, base)
    if start is not None and (not moved or order[start] < order[moved[0]]):
        return base.places[start], combined
    if moved and (not combining or order[moved[0]] < order[combining[0]]):
        return _with_operator(moved[0], operators, order, base), combined
    if combined is not None:
        return combined, None
    return (base.places[operators[0]], None) if operators else (None, None)


def _start_of_moving(combining: list[Key], operators: list[Key], base: Pass) -> Key | None:
    """Return the first of the operators that only moved rows, right before the one that combines them."""
    mixed = set(operators)
    start = None
    for key in base.rows:
        if combining and key == combining[0]:
            return start
        if key.operator:
            start = (start or key) if key in mixed else None
    return None


def _with_operator(module: Key, operators: list[Key], order: dict[Key, int], base: Pass) -> Place:
    """Return the module's place with the first operator in it that has the rows elsewhere."""
    place = base.places[module]
    inside = [key for key in operators if order[key] < order[module] and _is_within(key.path, module.path)]
    return replace(base.places[inside[0]]) if inside else place


def _is_within(path: str, outer: str) -> bool:
    return path == outer or outer == "" or path.startswith(f"{outer}.")


def _overlaps(combining: list[Key], moved: list[Key], order: dict[Key, int], base: Pass) -> tuple[Place, ...]:
    places = [base.places[key] for key in sorted((*combining, *moved), key=order.__getitem__)]
    return tuple(dict.fromkeys(places))[:MAX_OVERLAPS]


def _layers(module: torch.nn.Module) -> tuple[set[str], set[str]]:
    """Return the paths of the layers to report, and of the norm layers among them."""
    norms = {path for path, _, _ in norm_layers(module)}
    leaves = {path for path, child in module.named_modules() if next(child.children(), None) is None}
    return leaves | norms, norms
