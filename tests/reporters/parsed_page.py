"""A web page as a parser sees it."""

import io
from dataclasses import replace
from html.parser import HTMLParser

from bn_audit.reporters.web_page import REPORTER

VOID = {"meta"}
ATTACKS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' style=position:fixed x='",
    "</style></title></pre><iframe>",
    "<!-- & &amp; -->",
    "x]]>",
)
"""What a file may call a layer to get out of the text."""


class Page(HTMLParser):
    """Every element with its attributes, the text that a reader sees, and the scripts."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")

    def handle_data(self, data):
        if "script" in self.open:
            self.scripts.append(data)
        elif "style" not in self.open:
            self.text.append(data)


def rendered(of) -> str:
    out = io.StringIO()
    REPORTER.render(of, out, False)
    return out.getvalue()


def page(of) -> Page:
    parsed = Page()
    parsed.feed(rendered(of))
    parsed.close()
    assert parsed.open == []
    return parsed


def swapped(value, old: str, new: str):
    """Return a report in which one name stands for another, wherever it occurs."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, tuple | list):
        return type(value)(swapped(item, old, new) for item in value)
    if isinstance(value, dict):
        return {swapped(key, old, new): swapped(item, old, new) for key, item in value.items()}
    if hasattr(value, "__dataclass_fields__") and type(value).__name__ != "TensorRef":
        return replace(value, **{name: swapped(getattr(value, name), old, new) for name in value.__dataclass_fields__})
    return value
