"""Markup that no name out of a file can break: only `text` turns strings into markup, and it escapes them."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import NewType

from bn_audit.styled import clean

Markup = NewType("Markup", str)
"""Markup that is safe to put into the page as it is."""

NOTHING = Markup("")


def text(value: str, limit: int = 2000) -> Markup:
    """Return `value` as text of the page: unprintable characters as escapes, cut to `limit`, nothing of it markup."""
    return Markup(html.escape(clean(value, limit)))


def element(name: str, *content: Markup, kind: str = "", title: str = "", **attributes: str) -> Markup:
    """Return one element.

    Args:
        kind: Its classes.
        title: Shown where a pointer rests on it.
        attributes: Further ones by name.
    """
    given = {"class": kind, "title": clean(title), **attributes}
    written = "".join(f' {key}="{html.escape(value)}"' for key, value in given.items() if value)
    return Markup(f"<{name}{written}>{''.join(content)}</{name}>")


def joined(parts: Iterable[Markup], separator: str = "\n") -> Markup:
    """Return the parts in a row."""
    return Markup(separator.join(parts))


def code(value: str, limit: int = 400) -> Markup:
    """Return a name or path that may break anywhere."""
    return element("code", text(value, limit))


def badge(word: str, kind: str) -> Markup:
    """Return a word on a coloured ground."""
    return element("span", text(word), kind=f"badge {kind}".rstrip())


def bar(share: float, content: Markup, title: str = "") -> Markup:
    """Return a table cell's content over a bar of `share` (0 to 1) of the cell's width."""
    width = f"width:{100 * min(max(share, 0.0), 1.0):.1f}%"
    return element("div", element("span", kind="fill", style=width), element("span", content), kind="bar", title=title)


def table(header: Sequence[Markup], rows: Iterable[Sequence[Markup]], kind: str = "") -> Markup:
    """Return a table that scrolls by itself where the window is narrow."""
    head = element("tr", *(element("th", cell, scope="col") for cell in header))
    body = (element("tr", *(element("td", cell) for cell in row)) for row in rows)
    whole = element("table", element("thead", head), Markup("\n"), element("tbody", joined(body)), kind=kind)
    return element("div", whole, kind="scroll")


def folded(summary: Markup, *content: Markup, is_open: bool = False) -> Markup:
    """Return content behind a line that opens it, without any script."""
    return element("details", element("summary", summary), *content, **({"open": "open"} if is_open else {}))


def facts(pairs: Iterable[tuple[str, Markup]]) -> Markup:
    """Return a list of labels and what they say."""
    rows = [joined((element("dt", text(label)), element("dd", content)), "") for label, content in pairs]
    return element("dl", joined(rows)) if rows else NOTHING
