"""Which samples of which batch moved, and how far."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bn_audit.reporters._log_scale import LogScale
from bn_audit.reporters._observation import effect_text
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

ROW = 22
"""Pixels of one row."""

LEVELS = 5
"""Shades above the noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cells:
    """The cells of one batch size.

    Attributes:
        step: Samples that share a cell.
        values: The largest of each cell.
    """

    size: SizeResult
    step: int
    values: tuple[float, ...]

    def samples(self, column: int) -> str:
        """Return which samples share a cell, counted from 1."""
        start, stop = column * self.step + 1, min((column + 1) * self.step, len(self.size.samples))
        return f"sample {start}" if start == stop else f"samples {start} to {stop}, largest"


def heat_map(observation: Observation, scale: LogScale) -> Markup:
    """Return the map of batch size and sample; nothing where no sample's figure is known."""
    sizes = [size for size in observation.sizes if size.samples]
    if not sizes:
        return NOTHING
    kept = _kept(sizes)
    step = every(max(len(size.samples) for size in kept), COLUMNS)
    rows = [_Cells(size=size, step=step, values=tuple(_binned(size.samples, step))) for size in kept]
    columns = max(len(row.values) for row in rows)
    about = [f" each cell is the largest of {step} samples"] if step > 1 else []
    about += (
        [f" {len(kept)} of {plural(len(sizes), 'batch size')}: those that moved most"] if len(kept) < len(sizes) else []
    )
    caption = joined(
        (element("strong", text("Divergence of each sample")), element("span", text(";".join(about)), kind="quiet")), ""
    )
    label = f"Divergence of each sample at {plural(len(rows), 'batch size')}; the figures are in the table below"
    drawn = plane(label, _content(rows, columns, observation.noise_floor, scale), len(rows) * ROW)
    return figure(caption, drawn, _legend(observation.noise_floor, scale), _as_table(rows, columns), kind="heat")


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


def _content(rows: Sequence[_Cells], columns: int, floor: float | None, scale: LogScale) -> Iterator[Markup]:
    for number, row in enumerate(rows):
        y = number * ROW
        yield words(0, y + ROW / 2 + 4, str(row.size.batch_size), "tick end", "-8")
        for column, value in enumerate(row.values):
            level = _level(value, floor, scale)
            cell = [box(column / columns, y, 1 / columns, ROW, f"cell {level}")]
            if columns <= LABELLED:
                cell.append(words((column + 0.5) / columns, y + ROW / 2 + 4, _short(value), f"in middle {level}"))
            yield hit(f"batch size {row.size.batch_size}, {row.samples(column)}: {effect_text(value)}", *cell)
    step = every(columns, 8)
    for column in range(0, columns, step):
        number = column * rows[0].step + 1
        yield words((column + 0.5) / columns, len(rows) * ROW + 16, str(number), "tick middle")
    yield words(0.5, len(rows) * ROW + 34, "sample in the batch (rows: batch size)", "tick middle")


def _level(value: float, floor: float | None, scale: LogScale) -> str:
    """Return the class of a cell: equal bits, within the noise, or one of the shades above it."""
    if value == 0:
        return "same"
    if floor is not None and value <= floor:
        return "noise"
    start = scale.share(floor) if floor is not None else 0.0
    share = (scale.share(value) - start) / (1 - start) if start < 1 else 1.0
    return f"level{min(int(share * LEVELS), LEVELS - 1) + 1}"


def _short(value: float) -> str:
    if value == 0 or not math.isfinite(value) or value >= 0.01:
        return f"{value:.2g}"
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def _legend(floor: float | None, scale: LogScale) -> Markup:
    entries = [swatch("cell same", "equal bits")]
    if floor is not None:
        entries.append(swatch("cell noise", "within the noise"))
    start = scale.low + (scale.high - scale.low) * scale.share(floor) if floor is not None else float(scale.low)
    for level in range(LEVELS):
        least = 10 ** (start + (scale.high - start) * level / LEVELS)
        entries.append(swatch(f"cell level{level + 1}", f"from {least:.0e}"))
    return legend(entries)


def _as_table(rows: Sequence[_Cells], columns: int) -> Markup:
    header = [text("batch size"), *(text(str(column * rows[0].step + 1)) for column in range(columns))]
    body = ([text(str(row.size.batch_size)), *(text(effect_text(value)) for value in row.values)] for row in rows)
    return folded(
        text("The figures, by first sample of each cell" if rows[0].step > 1 else "The figures"), table(header, body)
    )
