"""The parts of the text report that tell about a comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from bn_audit.reporters._comparison import (
    LONGEST_NAME,
    alignment,
    by_effect,
    differences,
    drift_summary,
    figure,
    is_unlike,
    not_compared,
)
from bn_audit.reporters._words import plural, size_text
from bn_audit.styled import Line, clean, line
from bn_audit.subject.drift import Extreme, LayerDrift
from bn_audit.subject.report import Report

ROWS = 12
"""Layers of the drift table that are shown: those that moved most; the JSON and HTML reports have all."""

WIDEST_LAYER = 44
"""Columns for a layer's path in the drift table; a longer one pushes its row to the right."""

COLUMNS = ("mean/sd @ch", "ln var @ch", "weight", "bias")
WIDTHS = (13, 13, 8, 8)
LEGEND = (
    "largest of all channels (@ch): means in standard deviations of the reference, ln of variance ratios; "
    "weight and bias relative to the layer's largest; = nothing beyond rounding"
)


def _reference(report: Report) -> Iterator[Line]:
    """Say which artifact the other one is."""
    comparison = report.comparison
    if comparison is not None:
        parts = [clean(comparison.reference_format)]
        parts += [size_text(comparison.reference_size_bytes)] if comparison.reference_size_bytes else []
        yield line(("reference: ", "dim"), (clean(comparison.reference), "bold"), f"  {', '.join(parts)}", indent=2)


def _alignment(report: Report) -> Iterator[Line]:
    """Say what each pattern of frozen layers stands for, and how the two sides were aligned."""
    for item in report.frozen:
        count = f"{plural(len(item.layers), 'norm layer')}, {plural(len(item.tensors), 'tensor')}"
        yield line(("frozen: ", "dim"), f"{clean(item.pattern, LONGEST_NAME)} ({count})", indent=2)
    if report.comparison is not None:
        for label, text in alignment(report.comparison):
            yield line((f"{label}: ", "dim"), text, indent=2)


def _drift(report: Report) -> Iterator[Line]:
    """Draw the table of the layers that moved most, and say what no statement is made about."""
    if report.comparison is not None and report.comparison.drift:
        yield line(("drift: ", "dim"), drift_summary(report.comparison), indent=2)
        yield from _drift_table([drift for drift in by_effect(report.comparison) if is_unlike(drift)])
    for what, reason in not_compared(report):
        yield line(("not compared: ", "yellow"), f"{what} ({reason})", indent=2)


def _drift_table(drifts: Sequence[LayerDrift]) -> Iterator[Line]:
    if not drifts:
        return
    shown = drifts[:ROWS]
    width = min(WIDEST_LAYER, max(len(_layer(drift)) for drift in shown))
    yield line((_row("layer", *COLUMNS, width=width), "dim"), indent=4)
    for drift in shown:
        yield line(_drift_row(drift, width), indent=4)
    if len(drifts) > ROWS:
        yield line((f"and {len(drifts) - ROWS} more layers that differ less", "dim"), indent=4)
    yield line((LEGEND, "dim"), indent=4, hang=0)


def _drift_row(drift: LayerDrift, width: int) -> str:
    cells = (_placed(drift.mean), _placed(drift.variance), _size(drift.weight), _size(drift.bias))
    more = ", ".join(differences(drift))
    return _row(_layer(drift), *cells, width=width) + (f"  {more}" if more else "")


def _row(layer: str, *cells: str, width: int) -> str:
    return f"{layer:<{width}}" + "".join(f" {cell:>{room}}" for cell, room in zip(cells, WIDTHS, strict=True))


def _layer(drift: LayerDrift) -> str:
    return clean(drift.location.path or drift.location.node or "(root)", LONGEST_NAME)


def _placed(extreme: Extreme | None) -> str:
    return f"{_size(extreme)} @{extreme.channel}" if extreme is not None and _is_beyond(extreme) else _size(extreme)


def _size(extreme: Extreme | None) -> str:
    if extreme is None:
        return "-"
    return figure(extreme.size) if _is_beyond(extreme) else "="


def _is_beyond(extreme: Extreme) -> bool:
    return bool(extreme.beyond) or not math.isfinite(extreme.size)


PARTS: dict[str, Callable[[Report], Iterator[Line]]] = {
    "reference": _reference,
    "alignment": _alignment,
    "drift": _drift,
}
"""The parts by the place that the text report has for them."""
