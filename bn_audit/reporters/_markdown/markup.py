"""GitHub's Markdown that no name out of a file can break, link, mention or make into HTML.

Names are code spans, in which nothing is read as structure (CommonMark 0.31, section 6.1) or looked for. In sentences,
what Markdown or HTML may take for its own becomes a character reference, which neither reads as structure (section
2.5); what sites look for in the finished text (mentions, references, emoji, addresses) is torn apart by an empty space.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import NewType

from bn_audit.styled import clean

Markdown = NewType("Markdown", str)
"""Text that stands for itself in Markdown, within one line and one cell of a table."""

Html = NewType("Html", str)
"""The same within an HTML element, where Markdown is not read."""

_SPECIAL = re.compile(r"[&<>|`*\[\]\\~$@#!^]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])")
_LOOKED_FOR = re.compile(r"(?<=[@#!$~%&])(?=[\w\"(])|(?<=:)(?=//|[\w+-]+:)|(?<=www)(?=\.)|(?<=GH)(?=-[0-9])")
"""Between what starts a mention, a reference, an emoji or an address, and what follows it."""

_EMPTY = "\u200b"
"""A space without width: invisible, and enough to tear a word apart for whoever searches it."""

LONGEST_NAME = 400


def text(value: str) -> Markdown:
    """Return a sentence, in one line, as text."""
    return Markdown(_referenced(_LOOKED_FOR.sub(_EMPTY, clean(value))))


def code(value: str, limit: int = LONGEST_NAME) -> Markdown:
    """Return a name as code."""
    name = clean(value, limit) or "(no name)"
    if "|" in name:  # a table splits code spans too, and its way to escape a bar fails behind a backslash
        return Markdown(f"<code>{_referenced(_LOOKED_FOR.sub(_EMPTY, name))}</code>")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", name)), default=0))
    pad = " " if name[0] in "` " or name[-1] in "` " else ""
    return Markdown(f"{fence}{pad}{name}{pad}{fence}")


def bold(value: str) -> Markdown:
    """Return words in bold."""
    return Markdown(f"**{text(value)}**")


def joined(*parts: Markdown, separator: str = " ") -> Markdown:
    """Return parts of one line in a row."""
    return Markdown(separator.join(part for part in parts if part))


def table(header: Sequence[str], rows: Iterable[Sequence[Markdown]]) -> str:
    """Return a table; a cell is one line, in which no bar is left."""
    written = [" | ".join(header), " | ".join("---" for _ in header), *(" | ".join(row) for row in rows)]
    return "".join(f"| {row} |\n" for row in written)


def items(rows: Iterable[Markdown]) -> str:
    """Return a list."""
    return "".join(f"- {row}\n" for row in rows)


def folded(summary: Html, content: str) -> str:
    """Return content behind a line that opens it; the blank lines let Markdown be read in it."""
    return f"<details><summary>{summary}</summary>\n\n{content.rstrip()}\n\n</details>\n"


def plain_html(value: str) -> Html:
    """Return words of ours, or numbers, within an HTML element."""
    return Html(html.escape(clean(value)))


def code_html(value: str) -> Html:
    """Return a name as code within an HTML element."""
    return Html(f"<code>{html.escape(clean(value, LONGEST_NAME))}</code>")


def _referenced(value: str) -> str:
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", value)
