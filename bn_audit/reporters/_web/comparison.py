"""The sections about a comparison: how the sides align, folded layers, the drift table, what was not compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bn_audit.reporters._comparison import (
    alignment,
    by_effect,
    change_text,
    differences,
    drift_summary,
    figure,
    fold_row,
    is_unlike,
    not_compared,
)
from bn_audit.reporters._web.markup import Markup, bar, code, element, facts, folded, joined, table, text
from bn_audit.reporters._words import plural
from bn_audit.subject.comparison import Comparison
from bn_audit.subject.drift import Extreme, LayerDrift
from bn_audit.subject.report import Report

QUANTITIES = ("mean", "variance", "weight", "bias")
HEADER = ("layer", "mean / sd", "ln variance ratio", "weight", "bias", "batches seen", "also differs")
LEGEND = (
    "The channel that moved most (@). Means are in standard deviations of the reference, variances in the natural "
    "logarithm of their ratio, weight and bias relative to the layer's largest. A bar is as long as its share of the "
    "column's largest; = is nothing beyond rounding, - is not compared."
)
MOST_NAMES = 500
"""Names listed for one kind of tensor; the JSON report has all."""


def comparison_sections(report: Report) -> Iterator[Markup]:
    """Yield the sections; none without a comparison."""
    comparison = report.comparison
    if comparison is None:
        return
    yield element("h3", text("Alignment"))
    yield facts((label, text(sentence)) for label, sentence in alignment(comparison))
    yield from _name_lists(comparison)
    yield from _folds(comparison)
    yield from _drift(comparison)
    yield from _mismatched_values(comparison)
    gaps = not_compared(report)
    if gaps:
        yield element("h3", text("Not compared"))
        yield element("ul", joined(element("li", code(what), text(f" ({reason})")) for what, reason in gaps))


def _name_lists(comparison: Comparison) -> Iterator[Markup]:
    for keys in comparison.keys:
        yield from _names("missing", keys.missing)
        yield from _names("unexpected", keys.unexpected)
        yield from _names(
            "of another shape or dtype", [f"{item.reference}: {item.difference}" for item in keys.mismatched]
        )
        renamed = [f"{item.reference} as {item.target}" for item in keys.matched if item.renamed]
        yield from _names("under another name", renamed)


def _names(label: str, names: Sequence[str]) -> Iterator[Markup]:
    if names:
        listed = joined(element("li", code(name)) for name in names[:MOST_NAMES])
        more = text(f"and {len(names) - MOST_NAMES} more") if len(names) > MOST_NAMES else text("")
        yield folded(text(f"{len(names)} {label}"), element("ul", listed), more)


def _folds(comparison: Comparison) -> Iterator[Markup]:
    rows = [row for pair in comparison.pairs if (row := fold_row(pair)) is not None]
    if rows:
        header = ("layer", "folded into", "equations", "largest relative deviation", "eps")
        yield element("h3", text("Folded layers"))
        yield table(
            [text(name) for name in header],
            ((code(layer), code(into), *map(text, rest)) for layer, into, *rest in rows),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """The largest finite size of each quantity, which is the length of the longest bar."""

    largest: dict[str, float]

    def cell(self, drift: LayerDrift, quantity: str) -> Markup:
        """Return the content of one cell."""
        extreme: Extreme | None = getattr(drift, quantity)
        if extreme is None:
            return text("-")
        title = f"channel {extreme.channel}: {extreme.reference:.6g} to {extreme.target:.6g}"
        if not extreme.beyond and math.isfinite(extreme.size):
            return element("span", text("="), kind="quiet", title=title)
        size = abs(extreme.size)
        share = size / self.largest[quantity] if math.isfinite(size) and self.largest[quantity] else 1.0
        where = element("span", text(f" @{extreme.channel}"), kind="quiet")
        more = f"; {plural(extreme.beyond, 'channel')} beyond {extreme.tolerance:.1g}"
        return bar(share, joined((text(figure(extreme.size)), where), ""), title + more)


def _scale(drifts: Iterable[LayerDrift]) -> _Scale:
    largest = dict.fromkeys(QUANTITIES, 0.0)
    for drift in drifts:
        for quantity in QUANTITIES:
            extreme: Extreme | None = getattr(drift, quantity)
            if extreme is not None and extreme.beyond and math.isfinite(extreme.size):
                largest[quantity] = max(largest[quantity], abs(extreme.size))
    return _Scale(largest=largest)


def _drift(comparison: Comparison) -> Iterator[Markup]:
    if not comparison.drift:
        return
    yield element("h3", text(f"Drift: {drift_summary(comparison)}"))
    ordered = by_effect(comparison)
    moved = [drift for drift in ordered if is_unlike(drift)]
    rest = [drift for drift in ordered if not is_unlike(drift)]
    scale = _scale(ordered)
    if moved:
        yield element("p", text(LEGEND), kind="quiet")
        yield _drift_table(moved, scale)
    if rest:
        yield folded(text(f"{plural(len(rest), 'layer')} without a difference"), _drift_table(rest, scale))


def _drift_table(drifts: Sequence[LayerDrift], scale: _Scale) -> Markup:
    """Return the table; a column for which no layer has anything is left out."""
    columns = [[code(drift.location.path or drift.location.node or "(root)") for drift in drifts]]
    columns += [[scale.cell(drift, quantity) for drift in drifts] for quantity in QUANTITIES]
    columns += [[text(change_text(drift.counter) if drift.counter.differs else "") for drift in drifts]]
    columns += [[text(", ".join(differences(drift))) for drift in drifts]]
    shown = [(text(name), cells) for name, cells in zip(HEADER, columns, strict=True) if any(cells)]
    return table([name for name, _ in shown], zip(*(cells for _, cells in shown), strict=True), kind="drift")


def _mismatched_values(comparison: Comparison) -> Iterator[Markup]:
    values = comparison.values
    if values.mismatched:
        yield element("h3", text(f"{plural(len(values.mismatched), 'further tensor')} with other values"))
        ordered = sorted(values.mismatched, key=lambda item: -item.size if item.size == item.size else -math.inf)
        yield table(
            [text(name) for name in ("tensor", "largest relative difference", "at", "reference", "target")],
            (
                (
                    code(item.target),
                    text(f"{figure(item.size)} (tolerance {item.tolerance:.1g})"),
                    text(f"channel {item.channel}"),
                    text(f"{item.reference_value:.6g}"),
                    text(f"{item.target_value:.6g}"),
                )
                for item in ordered[:MOST_NAMES]
            ),
        )
