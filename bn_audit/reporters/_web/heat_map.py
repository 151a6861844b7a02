"""Which samples of which batch moved, and how far."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bn_audit.reporters._log_scale import LogScale
from bn_audit.reporters._observation import compared_sizes, effect_text, is_noise
from bn_audit.reporters._web.chart import box, every, figure, hit, legend, plane, swatch, words
from bn_audit.reporters._web.markup import NOTHING, Markup, element, folded, joined, table, text
from bn_audit.reporters._words import plural
from bn_audit.subject.observation import Observation, SizeResult

COLUMNS = 32
"""Cells in one row: on a phone each is still 9 pixels wide."""

ROWS = 32
"""Batch sizes drawn; the JSON report has all."""

LABELLED = 8
"""Columns up to which a phone has room for the figure in its cell."""

TALL = 200
"""Pixels of all rows, as far as each stays between `LEAST_ROW` and `MOST_ROW`."""

LEAST_ROW, MOST_ROW = 14, 32

LEVELS = 5
"""Shades above the noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Map:
    """What is drawn.

    Attributes:
        sizes: One for each row.
        rows: The largest figure of each cell.
        step: Samples that share a cell.
        columns: Cells of the longest row.
        height: Pixels of one row.
        start: Where on the scale the first shade begins.
    """

    sizes: tuple[SizeResult, ...]
    rows: tuple[tuple[float, ...], ...]
    step: int
    columns: int
    height: float
    start: float
    scale: LogScale
    observation: Observation

    def samples(self, row: int, column: int) -> str:
        """Return which samples share a cell, counted from 1."""
        start, stop = column * self.step + 1, min((column + 1) * self.step, len(self.sizes[row].samples))
        return f"sample {start}" if start == stop else f"samples {start} to {stop}, largest"

    def level(self, value: float) -> str:
        """Return the class of a cell: equal bits, within the noise, or one of the shades above it."""
        if value == 0:
            return "same"
        if is_noise(self.observation, value):
            return "noise"
        share = (self.scale.share(value) - self.start) / (1 - self.start) if self.start < 1 else 1.0
        return f"level{min(int(share * LEVELS), LEVELS - 1) + 1}"

    def least(self, level: int) -> float:
        """Return the figure at which a shade begins."""
        share = self.start + (1 - self.start) * level / LEVELS
        return float(10 ** (self.scale.low + (self.scale.high - self.scale.low) * share))


def heat_map(observation: Observation, scale: LogScale) -> Markup:
    """Return the map of batch size and sample; nothing where no sample's figure is known."""
    sizes = [size for size in compared_sizes(observation) if size.samples]
    if not sizes:
        return NOTHING
    drawn = _map(_kept(sizes), observation, scale)
    about = [f" each cell is the largest of {drawn.step} samples"] if drawn.step > 1 else []
    if len(drawn.sizes) < len(sizes):
        about.append(f" the {len(drawn.sizes)} of {len(sizes)} batch sizes that moved most")
    caption = (
        element("strong", text("Divergence of each sample")),
        element("span", text(";".join(about)), kind="quiet"),
    )
    label = f"Divergence of each sample at {plural(len(drawn.rows), 'batch size')}; the figures are in the table below"
    shown = plane(label, _content(drawn), drawn.height * len(drawn.rows))
    return figure(joined(caption, ""), shown, legend(_legend(drawn)), _as_table(drawn), kind="heat")


def _map(sizes: Sequence[SizeResult], observation: Observation, scale: LogScale) -> _Map:
    step = every(max(len(size.samples) for size in sizes), COLUMNS)
    rows = tuple(tuple(_binned(size.samples, step)) for size in sizes)
    return _Map(
        sizes=tuple(sizes),
        rows=rows,
        step=step,
        columns=max(map(len, rows)),
        height=min(max(TALL / len(rows), LEAST_ROW), MOST_ROW),
        start=0.0 if observation.noise_floor is None else scale.share(observation.noise_floor),
        scale=scale,
        observation=observation,
    )


def _kept(sizes: Sequence[SizeResult]) -> list[SizeResult]:
    most = sorted(sizes, key=lambda size: -max((_known(value) for value in size.samples), default=0.0))[:ROWS]
    kept = {id(size) for size in most}
    return [size for size in sizes if id(size) in kept]


def _binned(samples: Sequence[float], step: int) -> Iterator[float]:
    for start in range(0, len(samples), step):
        yield max(samples[start : start + step], key=_known)


def _known(value: float) -> float:
    """Return a figure that can be ordered: what is no number counts as the largest."""
    return math.inf if math.isnan(value) else value


def _content(drawn: _Map) -> Iterator[Markup]:
    for number, row in enumerate(drawn.rows):
        y, size = number * drawn.height, drawn.sizes[number].batch_size
        yield words(0, y + drawn.height / 2 + 4, str(size), "tick end", "-8")
        for column, value in enumerate(row):
            yield hit(
                f"batch size {size}, {drawn.samples(number, column)}: {effect_text(value)}",
                *_cell(drawn, column, y, value),
            )
    bottom = drawn.height * len(drawn.rows)
    for column in range(0, drawn.columns, every(drawn.columns, 8)):
        yield words((column + 0.5) / drawn.columns, bottom + 18, str(column * drawn.step + 1), "tick middle")
    yield words(0.5, bottom + 36, "sample of the batch; one row for each batch size", "tick middle")


def _cell(drawn: _Map, column: int, y: float, value: float) -> Iterator[Markup]:
    level = drawn.level(value)
    yield box(column / drawn.columns, y, 1 / drawn.columns, drawn.height, f"cell {level}")
    if drawn.columns <= LABELLED:
        yield words((column + 0.5) / drawn.columns, y + drawn.height / 2 + 4, _short(value), f"in middle {level}")


def _short(value: float) -> str:
    if value == 0 or not math.isfinite(value) or value >= 0.01:
        return f"{value:.2g}"
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def _legend(drawn: _Map) -> Iterator[Markup]:
    """Yield the entries of the shades that occur."""
    used = {drawn.level(value) for row in drawn.rows for value in row}
    meanings = {"same": "equal bits", "noise": "explained by floating point"}
    meanings |= {f"level{level + 1}": f"from {_short(drawn.least(level))}" for level in range(LEVELS)}
    for level, meaning in meanings.items():
        if level in used:
            yield swatch(f"cell {level}", meaning)


def _as_table(drawn: _Map) -> Markup:
    header = [text("batch size"), *(text(str(column * drawn.step + 1)) for column in range(drawn.columns))]
    body = (
        [text(str(size.batch_size)), *(text(effect_text(value)) for value in row)]
        for size, row in zip(drawn.sizes, drawn.rows, strict=True)
    )
    about = ", each under the first sample of its cell" if drawn.step > 1 else " by sample"
    return folded(text(f"The figures{about}"), table(header, body, kind="figures"))
