"""Charts as inline SVG whose text keeps its size on a phone: across in shares of the width, down in pixels.

Drawn by hand because the charts of plotting libraries do not follow the page: matplotlib 3.11 and pygal 3.1 write fixed
colours and scale their text with the width (pygal also loads a script from the network), altair needs 88 MB to draw.
"""

from __future__ import annotations

from collections.abc import Iterable

from bn_audit.reporters._log_scale import LogScale
from bn_audit.reporters._web.markup import Markup, element, text

HEIGHT = 200
"""Pixels from the top of a chart's plane to its bottom."""

ZERO_ROOM = 20
"""Pixels at the bottom for figures that are 0, which a logarithmic scale cannot hold."""

SHAPES = {
    "below": "M0-4a4 4 0 1 0 0 8a4 4 0 1 0 0-8z",
    "above": "M0-6L6 0L0 6L-6 0z",
    "reference": "M0-4a4 4 0 1 0 0 8a4 4 0 1 0 0-8z",
    "failed": "M-5-5L5 5M-5 5L5-5",
}
"""Told apart by shape as well as by colour: a circle, a diamond, a ring, a cross."""


def down(value: float, scale: LogScale) -> float:
    """Return how far below the top a figure lies; 0 lies on the bottom, what is not finite at the top."""
    if value == 0:
        return HEIGHT
    return (HEIGHT - ZERO_ROOM) * (1 - scale.share(value))


def plane(label: str, content: Iterable[Markup], height: float = HEIGHT) -> Markup:
    """Return a chart of the page's width, described by `label`; what lies outside of it is drawn too."""
    described = {"aria-label": label, "height": f"{height:g}"}
    return element("div", element("svg", *content, kind="chart", width="100%", role="img", **described), kind="plot")


def figure(caption: Markup, *content: Markup, kind: str = "") -> Markup:
    """Return charts and what belongs to them under one caption."""
    return element("figure", element("figcaption", caption), *content, kind=kind)


def box(x: float, y: float, width: float, height: float, kind: str) -> Markup:
    """Return a rectangle; `x` and `width` are shares of the width, `y` and `height` pixels."""
    return element("rect", kind=kind, x=_across(x), y=f"{y:.4g}", width=_across(width), height=f"{max(height, 0):.4g}")


def rule(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """Return a line."""
    return element("line", kind=kind, x1=_across(x1), y1=f"{y1:.4g}", x2=_across(x2), y2=f"{y2:.4g}")


def words(x: float, y: float, value: str, kind: str, shift: str = "0") -> Markup:
    """Return text that begins, ends or is centred at `x`, as its class says, moved by `shift` pixels."""
    return element("text", text(value, 80), kind=kind, x=_across(x), y=f"{y:.4g}", dx=shift)


def mark(x: float, y: float, shape: str) -> Markup:
    """Return one of `SHAPES` at a point."""
    return element("svg", element("path", d=SHAPES[shape]), kind=f"mark {shape}", x=_across(x), y=f"{y:.4g}")


def hit(label: str, *content: Markup) -> Markup:
    """Return a part of a chart that tells `label` where a pointer or the keyboard rests on it."""
    return element("g", element("title", text(label, 400)), *content, kind="hit")


def key(shape: str, meaning: str) -> Markup:
    """Return one entry of a legend."""
    drawn = element(
        "svg", element("path", d=SHAPES[shape]), kind=f"mark {shape}", viewBox="-7 -7 14 14", width="14", height="14"
    )
    return element("span", drawn, text(f" {meaning}"), kind="key")


def swatch(kind: str, meaning: str) -> Markup:
    """Return one entry of a legend for an area."""
    drawn = element("svg", element("rect", kind=kind, width="14", height="14"), width="14", height="14")
    return element("span", drawn, text(f" {meaning}"), kind="key")


def legend(entries: Iterable[Markup]) -> Markup:
    """Return the entries in a row, hidden from screen readers, to which every figure has a label."""
    return element("p", *entries, kind="legend quiet", **{"aria-hidden": "true"})


def grid(scale: LogScale) -> Iterable[Markup]:
    """Yield the lines and labels of the decades, and of 0."""
    for exponent in scale.decades(6):
        y = down(10.0**exponent, scale)
        yield rule(0, y, 1, y, "grid")
        yield words(0, y + 4, "1" if exponent == 0 else f"1e{exponent}", "tick end", "-8")
    yield rule(0, HEIGHT, 1, HEIGHT, "axis")
    yield words(0, HEIGHT + 4, "0", "tick end", "-8")


def every(count: int, most: int) -> int:
    """Return the step at which `count` labels come down to `most`."""
    return max(1, -(-count // most))


def _across(share: float) -> str:
    return f"{100 * share:.5g}%"
