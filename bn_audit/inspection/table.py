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
UNWRAPPED = 1000
"""Columns of a table that goes to a pipe: none of its cells is ever folded."""

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
    write(_head(subject), out, colour)
    routes = list(dict.fromkeys(figures.norm.model for figures in layers))
    for route in routes:
        out.write("\n")
        if len(subject.models) > 1:
            write([line(("model ", "dim"), f"'{clean(route, LONGEST_PATH)}'")], out, colour)
        _write_table([figures for figures in layers if figures.norm.model == route], out, colour)
    write(_foot(subject, layers), out, colour)


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


def _write_table(layers: Sequence[Figures], out: TextIO, colour: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name, _ in COLUMNS:
        table.add_column(name, justify="right" if name in NUMBERS else "left", overflow="fold")
    for figures in layers:
        table.add_row(*(Text(cell(figures)) for _, cell in COLUMNS))
    width = width_of(out) if out.isatty() else UNWRAPPED
    console = Console(file=out, width=width, force_terminal=colour, no_color=not colour, highlight=False)
    with console.capture() as capture:
        console.print(table)
    for row in capture.get().splitlines():
        out.write(row.rstrip(" ") + "\n")


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
