"""How far the answers move with the batch size, beside the noise of the model itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from bn_audit.reporters._log_scale import LogScale
from bn_audit.reporters._observation import compared_sizes, effect_text, is_noise, ran_sizes, sizes_text
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
from bn_audit.reporters._web.markup import NOTHING, Markup, element, text
from bn_audit.styled import clean
from bn_audit.subject.observation import Observation, SizeResult

MEANINGS = {
    "below": "explained by floating point",
    "above": "beyond the noise",
    "reference": "what the others are compared with",
    "failed": "failed or not finite",
}

TICKS = 12
"""Labels along the axis that a phone has room for."""


def size_chart(observation: Observation, scale: LogScale) -> Markup:
    """Return the chart; `scale` holds its figures."""
    floor = observation.noise_floor
    noise = "" if floor is None else f"; the noise floor is {effect_text(floor)}"
    label = f"Divergence by batch size: {_told(observation)}{noise}"
    shapes = {_shape(size, observation) for size in observation.sizes}
    entries = [key(shape, meaning) for shape, meaning in MEANINGS.items() if shape in shapes]
    caption = element("strong", text("Divergence by batch size"))
    note = text(" largest change of an output element, relative to the sample's largest; logarithmic")
    if floor is not None:
        entries.append(swatch("band", f"noise floor {effect_text(floor)}: floating point"))
    drawn = plane(label, _content(observation, scale))
    return figure(element("span", caption, element("span", note, kind="quiet")), drawn, legend(entries))


def _told(observation: Observation) -> str:
    shown = compared_sizes(observation)
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
    joints = [(places[index], down(value, scale)) for index, value in _finite(sizes, observation)]
    for (x1, y1), (x2, y2) in pairwise(joints):
        yield rule(x1, y1, x2, y2, "link")
    for index, size in enumerate(sizes):
        x = places[index]
        if index % step == 0:
            yield words(x, HEIGHT + 18, str(size.batch_size), "tick middle")
        area = box(index / len(sizes), 0, 1 / len(sizes), HEIGHT, "area")
        shape = _shape(size, observation)
        drawn = mark(x, _down(size, scale), shape) if shape else NOTHING
        yield hit(_label(size, observation), area, drawn)
    yield words(0.5, HEIGHT + 36, "batch size", "tick middle")


def _finite(sizes: Sequence[SizeResult], observation: Observation) -> Iterator[tuple[int, float]]:
    """Yield the number and figure of each size that a line may join to the next."""
    for index, size in enumerate(sizes):
        if size.max_rel is not None and math.isfinite(size.max_rel) and size.batch_size != observation.reference_size:
            yield index, size.max_rel


def _down(size: SizeResult, scale: LogScale) -> float:
    """Return the place of a size's mark; at the top where it has no figure."""
    return 0.0 if size.max_rel is None else down(size.max_rel, scale)


def _shape(size: SizeResult, observation: Observation) -> str:
    """Return the mark of a size; ``""`` where it ran and is not comparable."""
    if size.status == "ok" and size.max_rel is None:
        return ""
    if size.max_rel is None or not math.isfinite(size.max_rel):
        return "failed"
    if size.batch_size == observation.reference_size:
        return "reference"
    return "below" if is_noise(observation, size.max_rel) else "above"


def _label(size: SizeResult, observation: Observation) -> str:
    """Return what a size's mark tells."""
    if size.status != "ok" or (size.max_rel is None and size.error):
        return f"batch size {size.batch_size}, {size.status}: {clean(size.error, 200)}"
    if size.batch_size == observation.reference_size:
        return f"batch size {size.batch_size}: the others are compared with it"
    if size.max_rel is None:
        return f"batch size {size.batch_size}: not comparable"
    changed = f", {size.top1_changes} changed top-1" if size.top1_changes else ""
    return (
        f"batch size {size.batch_size}: {effect_text(size.max_rel)} relative, "
        f"{effect_text(size.max_abs)} absolute{changed}"
    )
