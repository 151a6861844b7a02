"""The table of every norm layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from bn_audit.inspection.figures import DEAD_MEANING, Figures
from bn_audit.styled import Line, clean, line, width_of, write
from bn_audit.subject.norm import Mode, NormKind
from bn_audit.subject.subject import Subject

KINDS = {
    NormKind.BATCH_NORM: "BN",
    NormKind.SYNC_BATCH_NORM: "SyncBN",
    NormKind.FROZEN_BATCH_NORM: "FrozenBN",
    NormKind.INSTANCE_NORM: "IN",
}
LONGEST_PATH = 120
GAP = "  "
UNLIMITED = 1_000_000
"""Columns of a table that goes to a pipe: it is for other programs, too, and never wrapped."""

ABSENT = "-"

COLUMNS: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    ("layer", lambda figures: clean(figures.norm.path or "(root)", LONGEST_PATH)),
    ("kind", lambda figures: KINDS[figures.norm.kind]),
    ("mode", lambda figures: ABSENT if figures.norm.mode is Mode.UNKNOWN else figures.norm.mode.value),
    ("channels", lambda figures: str(figures.channels or ABSENT)),
    ("eps", lambda figures: _number(figures.norm.eps)),
    ("momentum", lambda figures: "average" if figures.norm.cumulative else _number(figures.norm.momentum)),
    ("batches", lambda figures: ABSENT if figures.counter is None else str(figures.counter)),
    ("mean", lambda figures: _range(figures.columns.get("running_mean"))),
    ("variance", lambda figures: _range(figures.columns.get("running_var"))),
    ("dead", lambda figures: ABSENT if figures.dead is None else str(figures.dead)),
)
NUMBERS = {"channels", "eps", "momentum", "batches", "dead"}


def render(subject: Subject, layers: Sequence[Figures], out: TextIO, colour: bool) -> None:
    """Write the table, one block for each model that holds norm layers, and what it leaves open."""
    width = width_of(out) if out.isatty() else UNLIMITED
    write(_lines(subject, layers, width), out, colour, width)
    write(_foot(subject, layers), out, colour)


def _lines(subject: Subject, layers: Sequence[Figures], width: int) -> Iterator[Line]:
    yield from _head(subject)
    for route in dict.fromkeys(figures.norm.model for figures in layers):
        yield line()
        if len(subject.models) > 1:
            yield line(("model ", "dim"), f"'{clean(route, LONGEST_PATH)}'")
        yield from _table([figures for figures in layers if figures.norm.model == route], width)


def _head(subject: Subject) -> Iterator[Line]:
    count = len(subject.norms)
    noun = "norm layer" if count == 1 else "norm layers"
    yield line((clean(subject.source), "bold"), f"  {subject.format}, {count or 'no'} {noun}")


def _foot(subject: Subject, layers: Sequence[Figures]) -> Iterator[Line]:
    yield line()
    if layers:
        yield line((f"{ABSENT}: the artifact does not say; {DEAD_MEANING}", "dim"))
    for figures in layers:
        for problem in figures.problems:
            yield line(("not read: ", "yellow"), clean(problem))
    for reason in subject.unread:
        yield line(("not read: ", "yellow"), clean(reason))


def _table(layers: Sequence[Figures], width: int) -> Iterator[Line]:
    """Yield aligned columns, or a few words for each layer where they would not fit."""
    rows = [tuple(cell(figures) for _, cell in COLUMNS) for figures in layers]
    names = tuple(name for name, _ in COLUMNS)
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    if sum(widths) + len(GAP) * (len(widths) - 1) > width:
        yield from (entry for row in rows for entry in _stacked(names, row))
        return
    yield line((_aligned(names, widths), "bold"))
    yield from (line(_aligned(row, widths)) for row in rows)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        cell.rjust(width) if name in NUMBERS else cell.ljust(width)
        for (name, _), cell, width in zip(COLUMNS, cells, widths, strict=True)
    )
    return GAP.join(padded)


def _stacked(names: Sequence[str], cells: Sequence[str]) -> Iterator[Line]:
    facts = (f"{name} {cell}" for name, cell in zip(names[1:], cells[1:], strict=True) if cell != ABSENT)
    yield line((cells[0], "bold"))
    yield line(", ".join(facts), indent=4, hang=0)


def _number(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.4g}"


def _range(values: Sequence[float] | None) -> str:
    """Return ``-0.31 .. 1.2`` over the finite values, and how many are not."""
    if not values:
        return ABSENT
    finite = [value for value in values if math.isfinite(value)]
    odd = f"{len(values) - len(finite)} not finite" if len(finite) < len(values) else ""
    span = f"{min(finite):.3g} .. {max(finite):.3g}" if finite else ""
    return ", ".join(filter(None, (span, odd)))
