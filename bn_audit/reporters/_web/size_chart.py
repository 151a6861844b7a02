"""How far the answers move with the batch size, beside the noise of the model itself."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bn_audit.reporters._log_scale import LogScale
from bn_audit.reporters._observation import effect_text, ran_sizes, sizes_text
from bn_audit.reporters._web.chart import (
    HEIGHT,
    box,
    down,
    every,
    figure,
    grid,
    hit,
    key,
    legend,
    mark,
    plane,
    rule,
    swatch,
    words,
)
from bn_audit.reporters._web.markup import Markup, element, text
from bn_audit.styled import clean
from bn_audit.subject.observation import Observation, SizeResult

TICKS = 12
"""Labels along the axis that a phone has room for."""


def size_chart(observation: Observation, scale: LogScale) -> Markup:
    """Return the chart; `scale` holds its figures."""
    floor = observation.noise_floor
    noise = "" if floor is None else f"; the noise floor is {effect_text(floor)}"
    label = f"Divergence by batch size: {_told(observation)}{noise}"
    entries = [key("below", "within the noise"), key("above", "beyond it"), key("failed", "failed or not finite")]
    caption = element("strong", text("Divergence by batch size"))
    note = text(" largest change of an output element, relative to the sample's largest; logarithmic")
    if floor is None:
        entries = entries[1:]
    else:
        entries.append(swatch("band", f"noise floor {effect_text(floor)}: floating point"))
    drawn = plane(label, _content(observation, scale))
    return figure(element("span", caption, element("span", note, kind="quiet")), drawn, legend(entries))


def _told(observation: Observation) -> str:
    shown = [size for size in observation.sizes if size.max_rel is not None]
    if len(shown) > TICKS:
        largest = max((size.max_rel or 0.0 for size in shown), default=0.0)
        return f"up to {effect_text(largest)} at the batch sizes {sizes_text(ran_sizes(observation))}"
    return ", ".join(f"{effect_text(size.max_rel)} at {size.batch_size}" for size in shown) or "none measured"


def _content(observation: Observation, scale: LogScale) -> Iterator[Markup]:
    sizes, floor = observation.sizes, observation.noise_floor
    if floor is not None:
        top = down(floor, scale)
        yield box(0, top, 1, HEIGHT - top, "band")
    yield from grid(scale)
    if floor is not None:
        yield rule(0, top, 1, top, "floor")
    step = every(len(sizes), TICKS)
    places = [(index + 0.5) / len(sizes) for index in range(len(sizes))]
    for index in range(len(sizes) - 1):
        ends = [_down(sizes[index], scale), _down(sizes[index + 1], scale)]
        if None not in ends:
            yield rule(places[index], ends[0] or 0.0, places[index + 1], ends[1] or 0.0, "link")
    for index, size in enumerate(sizes):
        x = places[index]
        if index % step == 0:
            yield words(x, HEIGHT + 18, str(size.batch_size), "tick middle")
        area = box(index / len(sizes), 0, 1 / len(sizes), HEIGHT, "area")
        yield hit(size_label(size), area, mark(x, _down(size, scale) or 0.0, _shape(size, floor)))
    yield words(0.5, HEIGHT + 36, "batch size", "tick middle")


def _down(size: SizeResult, scale: LogScale) -> float | None:
    """Return the place of a size's point; None where it has no figure to join to others."""
    if size.max_rel is None or not math.isfinite(size.max_rel):
        return None
    return down(size.max_rel, scale)


def _shape(size: SizeResult, floor: float | None) -> str:
    if size.max_rel is None or not math.isfinite(size.max_rel):
        return "failed"
    return "below" if size.max_rel == 0 or (floor is not None and size.max_rel <= floor) else "above"


def size_label(size: SizeResult) -> str:
    """Return what a size's point tells."""
    if size.status != "ok":
        return f"batch size {size.batch_size}: {size.status}: {clean(size.error, 200)}"
    if size.max_rel is None:
        return f"batch size {size.batch_size}: not comparable"
    changed = f", {size.top1_changes} changed top-1" if size.top1_changes else ""
    return (
        f"batch size {size.batch_size}: {effect_text(size.max_rel)} relative, "
        f"{effect_text(size.max_abs)} absolute{changed}"
    )
