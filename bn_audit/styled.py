"""Lines of styled text for terminals, pipes and files.

What a file says about itself (paths, type names, messages) is hostile until proved otherwise: `clean` is the one way
into a line, so that no name can move the cursor, open a markup tag or forge a line of its own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TextIO

PIPE_WIDTH = 120
"""Columns where no terminal says otherwise; paths and words are never broken, whatever the width."""

NARROWEST = 40
"""Below this many columns the lines are left to the terminal to wrap."""

LONGEST_TEXT = 2000
"""Characters of one text that are shown: more than any honest message, less than a screen-filling attack."""

IN_ASCII = {"█": "#", "▒": "-", "·": ".", "┊": "|"}
"""What the bars of a chart are drawn with, and what stands for it where a stream cannot write it."""

Span = tuple[str, str]
"""Text and its style, in the style language of rich; ``""`` for plain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One logical line.

    Attributes:
        spans: Styled texts, already clean.
        indent: Columns before the first row.
        hang: Further columns before the rows that wrapping adds.
    """

    spans: tuple[Span, ...] = ()
    indent: int = 0
    hang: int = 2


def line(*spans: str | Span, indent: int = 0, hang: int = 2) -> Line:
    """Return a line of plain texts and (text, style) pairs."""
    pairs = tuple((span, "") if isinstance(span, str) else span for span in spans)
    return Line(spans=pairs, indent=indent, hang=hang)


def clean(text: str, limit: int = LONGEST_TEXT) -> str:
    """Return `text` with every character that does not print as itself escaped, and cut to `limit` characters.

    Control, format, surrogate and unassigned characters, and every space but U+0020, become Python escapes.
    """
    cut = text[:limit]
    if not cut.isprintable():
        cut = "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in cut)
    return cut if len(text) <= limit else f"{cut}... ({len(text) - limit} more characters)"


def is_colourful(out: TextIO) -> bool:
    """Return whether `out` is a terminal that may be given colour; https://no-color.org is honoured."""
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width_of(out: TextIO) -> int:
    """Return how many columns a row may take."""
    if not out.isatty():
        return PIPE_WIDTH
    return max(NARROWEST, min(PIPE_WIDTH, shutil.get_terminal_size().columns))


def write(lines: Iterable[Line], out: TextIO, colour: bool, width: int | None = None) -> None:
    """Write the lines, wrapped at spaces to `width` columns; without it, to those of `out`."""
    columns = width_of(out) if width is None else width
    rows = (row for item in lines for row in _rows(item, columns))
    if not _takes_bars(out):
        rows = ([(_in_ascii(text), style) for text, style in row] for row in rows)
    if colour:
        _write_coloured(rows, out)
        return
    for row in rows:
        out.write(_guarded("".join(text for text, _ in row).rstrip(" ")) + "\n")


def _takes_bars(out: TextIO) -> bool:
    """Return whether the stream's encoding has the characters of bars; a stream in memory has none and takes all."""
    try:
        "".join(IN_ASCII).encode(getattr(out, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _in_ascii(text: str) -> str:
    for drawn, plain in IN_ASCII.items():
        text = text.replace(drawn, plain)
    return text


def _write_coloured(rows: Iterable[list[Span]], out: TextIO) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=out, force_terminal=True, highlight=False)
    for row in rows:
        console.print(Text.assemble(*row), soft_wrap=True)


def _guarded(row: str) -> str:
    """Keep a CI runner from taking a wrapped name for a workflow command (``::set-output`` and the like)."""
    if row.lstrip(" ").startswith("::"):
        row = row.replace("::", "\\x3a:", 1)
    return row.replace("##[", "#\\x23[")


def _rows(item: Line, width: int) -> Iterator[list[Span]]:
    text = "".join(part for part, _ in item.spans)
    room = width - item.indent
    for number, (start, stop) in enumerate(_breaks(text, room, room - item.hang)):
        pad = " " * (item.indent + (item.hang if number else 0))
        yield [(pad, ""), *_slice(item.spans, start, stop)]


def _breaks(text: str, first: int, rest: int) -> Iterator[tuple[int, int]]:
    """Yield the (start, stop) of each row: broken at the last space that fits, else at the next one."""
    start, room = 0, first
    while len(text) - start > room:
        stop = text.rfind(" ", start + 1, start + room + 1)
        if stop < 0:
            stop = text.find(" ", start + 1)
        if stop < 0:
            break
        yield start, stop
        start, room = stop + 1, rest
    yield start, len(text)


def _slice(spans: Iterable[Span], start: int, stop: int) -> Iterator[Span]:
    offset = 0
    for text, style in spans:
        part = text[max(start - offset, 0) : max(stop - offset, 0)]
        if part:
            yield part, style
        offset += len(text)
