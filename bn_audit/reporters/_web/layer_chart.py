"""How far the companions move the probe's rows in each layer, in the order of execution."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bn_audit.reporters._log_scale import LogScale, log_scale
from bn_audit.reporters._observation import class_name, effect_text
from bn_audit.reporters._web.chart import (
    HEIGHT,
    box,
    down,
    every,
    figure,
    grid,
    hit,
    legend,
    plane,
    rule,
    swatch,
    words,
)
from bn_audit.reporters._web.markup import NOTHING, Markup, bar, code, element, folded, joined, table, text
from bn_audit.reporters._words import MODE_WORDS, plural
from bn_audit.styled import clean
from bn_audit.subject.norm import Mode
from bn_audit.subject.observation import LayerEffect, Observation

COLUMNS = 120
"""Bars across: on a phone each is still 2 pixels wide."""

ROWS = 400
"""Layers in the table; the JSON report has all."""

LANE = 14
"""Pixels of one row of marks below the bars."""

LANES_AT = HEIGHT + 12
"""Where the rows of marks begin."""

LANES = {Mode.TRAIN: "train", Mode.EVAL: "eval", Mode.CALLER: "caller", Mode.UNKNOWN: "norm"}
"""The rows of marks and their names; a norm whose mode is not recorded stands in the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """Consecutive layers that share a bar.

    Attributes:
        start: Number of the first one, from 0.
        modes: Of the norm layers among them.
    """

    start: int
    layers: tuple[LayerEffect, ...]
    modes: tuple[Mode, ...]

    @property
    def largest(self) -> LayerEffect:
        return max(self.layers, key=lambda layer: math.inf if math.isnan(layer.effect) else layer.effect)

    @property
    def label(self) -> str:
        """What the bar tells."""
        most, count = self.largest, len(self.layers)
        norms = f"; {', '.join(MODE_WORDS[mode] for mode in dict.fromkeys(self.modes))}" if self.modes else ""
        name = clean(most.path or "(root)", 200)
        kind = f" ({clean(class_name(most.type_name), 100)}{norms})" if most.type_name else norms
        if count == 1:
            return f"layer {self.start + 1}, {name}{kind}: {effect_text(most.effect)}"
        return f"layers {self.start + 1} to {self.start + count}, largest at {name}{kind}: {effect_text(most.effect)}"


def layer_chart(observation: Observation, modes: Mapping[str, Mode]) -> Markup:
    """Return the profile.

    Args:
        modes: The mode of each norm layer by its path.
    """
    profile = observation.profile
    step = every(len(profile), COLUMNS)
    columns = [_column(profile, start, step, modes) for start in range(0, len(profile), step)]
    scale = log_scale(layer.effect for layer in profile)
    first = _first(observation)
    where = f"; samples first meet in layer {first + 1}, {_name(profile[first])}" if first is not None else ""
    about = f" {plural(len(profile), 'layer')} in the order of execution{where}"
    about += f"; each bar is the largest of {step} layers" if step > 1 else ""
    caption = joined(
        (element("strong", text("Divergence by layer")), element("span", text(about, 600), kind="quiet")), ""
    )
    lanes = [mode for mode in LANES if any(mode in column.modes for column in columns)]
    label = f"Divergence by layer:{about}; the figures are in the table below"
    mark = None if first is None else (first // step + 0.5) / len(columns)
    drawn = plane(label, _content(columns, scale, lanes, mark), LANES_AT + LANE * len(lanes))
    return figure(caption, drawn, legend(_legend(lanes)), _as_table(profile, modes, first), kind="layers")


def _column(profile: Sequence[LayerEffect], start: int, step: int, modes: Mapping[str, Mode]) -> _Column:
    layers = tuple(profile[start : start + step])
    found = tuple(modes.get(layer.path, Mode.UNKNOWN) for layer in layers if layer.is_norm)
    return _Column(start=start, layers=layers, modes=found)


def _first(observation: Observation) -> int | None:
    """Return the number of the layer in which samples first meet, if the profile has it."""
    place = observation.first_divergence
    if place is not None:
        for number, layer in enumerate(observation.profile):
            if layer.path == place.path:
                return number
    return next((number for number, layer in enumerate(observation.profile) if layer.effect != 0), None)


def _name(layer: LayerEffect) -> str:
    return clean(layer.path or "(root)", 200)


def _content(
    columns: Sequence[_Column], scale: LogScale, lanes: Sequence[Mode], first: float | None
) -> Iterator[Markup]:
    yield from grid(scale)
    width = 1 / len(columns)
    for lane, mode in enumerate(lanes):
        yield words(0, LANES_AT + LANE * lane + 11, LANES[mode], "tick end", "-8")
    for number, column in enumerate(columns):
        y = down(column.largest.effect, scale)
        drawn = [box(number * width, 0, width, LANES_AT + LANE * len(lanes), "area")]
        if y < HEIGHT:
            drawn.append(box((number + 0.1) * width, y, 0.8 * width, HEIGHT - y, "bar"))
        for lane, mode in enumerate(lanes):
            if mode in column.modes:
                top = LANES_AT + LANE * lane
                drawn.append(box((number + 0.1) * width, top + 3, 0.8 * width, LANE - 6, f"lane {LANES[mode]}"))
        yield hit(column.label, *drawn)
    if first is not None:
        yield rule(first, -6, first, HEIGHT, "first")
        side = "tick end" if first > 0.5 else "tick"
        yield words(first, -4, "samples first meet here", side, "-6" if first > 0.5 else "6")


def _legend(lanes: Sequence[Mode]) -> Iterator[Markup]:
    yield swatch("bar", "largest change of the probe's rows")
    for mode in lanes:
        is_stated = mode in (Mode.TRAIN, Mode.EVAL)
        known = f"norm layer in {LANES[mode]} mode" if is_stated else f"norm layer, {MODE_WORDS[mode]}"
        yield swatch(f"lane {LANES[mode]}", known)


def _as_table(profile: Sequence[LayerEffect], modes: Mapping[str, Mode], first: int | None) -> Markup:
    kept = _kept(profile, first)
    scale = log_scale(layer.effect for layer in profile)
    rows = (_row(number, profile[number], modes, scale, number == first) for number in kept)
    header = [text(name) for name in ("", "layer", "type", "norm", "divergence")]
    shown = f", {len(kept)} of {len(profile)} layers" if len(kept) < len(profile) else ""
    return folded(text(f"The figures{shown}"), table(header, rows, kind="profile"))


def _row(
    number: int, layer: LayerEffect, modes: Mapping[str, Mode], scale: LogScale, is_first: bool
) -> Sequence[Markup]:
    started = element("strong", text(" first")) if is_first else NOTHING
    return (
        text(str(number + 1)),
        joined((code(layer.path or "(root)"), started), ""),
        text(class_name(layer.type_name), 80),
        text(MODE_WORDS[modes.get(layer.path, Mode.UNKNOWN)] if layer.is_norm else ""),
        bar(scale.share(layer.effect), text(effect_text(layer.effect))),
    )


def _kept(profile: Sequence[LayerEffect], first: int | None) -> list[int]:
    """Return the numbers of the layers to list: all, or of very many those around the first, then norms."""
    if len(profile) <= ROWS:
        return list(range(len(profile)))
    near = range(max(0, first - 20), first + 40) if first is not None else range(0)
    order = sorted(range(len(profile)), key=lambda number: (number not in near, not profile[number].is_norm))
    return sorted(order[:ROWS])
