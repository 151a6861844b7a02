"""What a comparison comes to in words, for every report that people read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from bn_audit.reporters._fold import fold_line
from bn_audit.reporters._words import plural
from bn_audit.styled import clean
from bn_audit.subject.comparison import Comparison, FoldCheck, LayerPair, NotCompared, PairedBy
from bn_audit.subject.drift import Change, LayerDrift
from bn_audit.subject.key_alignment import KeyAlignment
from bn_audit.subject.report import Report

LONGEST_NAME = 200
"""Characters shown of one name out of a file."""

RENAMED = 3
"""Renamed tensors that are shown as examples; the JSON report has all."""

PAIRED_WORDS = {
    PairedBy.PATH: "by path",
    PairedBy.CONTENTS: "by equal contents",
    PairedBy.NEIGHBOUR: "by their neighbours",
    PairedBy.FOLD: "folded into the layer before by one side",
}


def alignment(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Yield (label, sentence) for how the two sides were aligned."""
    for pair in comparison.models:
        if pair.reference or pair.target or len(comparison.models) > 1:
            yield "compared", f"{_route(pair.target)} with {_route(pair.reference)} of the reference"
    for keys in comparison.keys:
        yield "names", _names(keys)
    if comparison.pairs or comparison.added:
        yield "layers", _layers(comparison)
    folds = [pair.fold for pair in comparison.pairs if pair.fold is not None]
    if folds:
        yield "folds", _folds(folds)
    for remark in comparison.remarks:
        yield "note", clean(remark)


def by_effect(comparison: Comparison) -> list[LayerDrift]:
    """Return the drift of every layer, the largest first."""
    return sorted(comparison.drift, key=lambda drift: (-drift.effect, not is_unlike(drift)))


def is_unlike(drift: LayerDrift) -> bool:
    """Return whether anything about the layer differs by more than rounding, settings and dtypes included."""
    return drift.statistics_moved or drift.affine_moved or any(True for _ in differences(drift))


def differences(drift: LayerDrift) -> Iterator[str]:
    """Yield what differs beside the values: settings, dtypes, the order of the statistics."""
    if drift.swapped:
        yield "mean and variance swapped"
    for name, change in (("eps", drift.eps), ("momentum", drift.momentum)):
        if change.differs:
            yield f"{name} {change_text(change)}"
    by_change: dict[str, list[str]] = {}
    for item in drift.dtype_change:
        role, _, cast = clean(item, LONGEST_NAME).partition(": ")
        by_change.setdefault(cast, []).append(role)
    yield from (f"{cast} ({', '.join(roles)})" if cast else ", ".join(roles) for cast, roles in by_change.items())


def change_text(change: Change) -> str:
    """Return ``1e-05 to 0.001``."""
    return f"{_recorded(change.reference)} to {_recorded(change.target)}"


def drift_summary(comparison: Comparison) -> str:
    """Return how many of the layers whose values could be had differ."""
    moved = sum(map(is_unlike, comparison.drift))
    unread = sum(drift.mean is None and drift.variance is None for drift in comparison.drift)
    compared = len(comparison.drift) - unread
    if moved:
        text = f"{moved} of {plural(len(comparison.drift), 'layer')} {'differs' if moved == 1 else 'differ'}"
    else:
        text = f"nothing beyond rounding in {plural(compared, 'layer')}" if compared else ""
    absent = f"{plural(unread, 'layer')} without values to compare" if unread else ""
    return ", ".join(filter(None, (text, absent)))


def unlike(comparison: Comparison) -> Iterator[str]:
    """Yield how the two sides differ, whether or not a rule finds fault with it."""
    moved = sum(map(is_unlike, comparison.drift))
    absent = sum(pair.paired_by is None for pair in comparison.pairs)
    broken = sum(pair.fold is not None and pair.fold.holds is False for pair in comparison.pairs)
    names = sum(len(keys.missing) + len(keys.unexpected) + len(keys.mismatched) for keys in comparison.keys)
    values = len(comparison.values.mismatched)
    if moved:
        yield f"{plural(moved, 'layer')} not the same"
    if absent or comparison.added:
        yield f"{plural(absent + len(comparison.added), 'layer')} on one side only"
    if broken:
        yield f"{plural(broken, 'fold')} broken"
    if names:
        yield f"{plural(names, 'tensor')} missing, unexpected or of another shape or dtype"
    if values:
        yield f"{plural(values, 'further tensor')} with other values"


def not_compared(report: Report) -> list[tuple[str, str]]:
    """Return (what, reason) for everything that no statement is made about, one entry for each reason."""
    if report.comparison is None:
        return []
    by_reason: dict[str, list[str]] = {}
    for item in report.comparison.values.not_compared:
        by_reason.setdefault(clean(_reason(item)), []).append(clean(item.what, LONGEST_NAME))
    return [
        (fold_line(names) if len(names) == 1 else f"{len(names)} parts: {fold_line(names)}", reason)
        for reason, names in by_reason.items()
    ]


def _reason(item: NotCompared) -> str:
    """Return the reason without the tensor's own name before it, so that equal reasons are told once."""
    name, colon, rest = item.reason.partition(": ")
    return rest if colon and name.startswith(item.what.rpartition(" ")[2]) else item.reason


def figure(value: float) -> str:
    """Return three significant digits."""
    return f"{value:.3g}"


def _route(route: str) -> str:
    return f"model '{clean(route, LONGEST_NAME)}'" if route else "the model at the top"


def _recorded(value: float | None) -> str:
    return "not recorded" if value is None else f"{value:.6g}"


def _names(keys: KeyAlignment) -> str:
    shapes = sum(item.is_shape for item in keys.mismatched)
    total = plural(keys.total, "tensor") + ("" if keys.complete else " of norm layers, convolutions and linear layers")
    parts = [f"all {total} found" if len(keys.matched) == keys.total else f"{len(keys.matched)} of {total} found"]
    parts += [f"{len(keys.missing)} missing"] if keys.missing else []
    parts += [f"{shapes} of another shape"] if shapes else []
    parts += [f"{len(keys.unexpected)} unexpected"] if keys.unexpected else []
    for side, prefix in (("reference", keys.reference_prefix), ("target", keys.target_prefix)):
        parts += [f"prefix '{clean(prefix, LONGEST_NAME)}' of the {side} stripped"] if prefix else []
    renamed = [match for match in keys.matched if match.renamed]
    if renamed:
        pairs = ", ".join(
            f"{clean(match.reference, LONGEST_NAME)} as {clean(match.target, LONGEST_NAME)}"
            for match in renamed[:RENAMED]
        )
        more = f", {len(renamed) - RENAMED} more" if len(renamed) > RENAMED else ""
        parts.append(f"{len(renamed)} under another name ({pairs}{more})")
    return "; ".join(parts)


def _layers(comparison: Comparison) -> str:
    paired = Counter(pair.paired_by for pair in comparison.pairs if pair.paired_by is not None)
    ways = ", ".join(f"{paired[way]} {words}" for way, words in PAIRED_WORDS.items() if paired[way])
    total = plural(len(comparison.pairs), "norm layer")
    parts = [f"{sum(paired.values())} of {total} found{f' ({ways})' if ways else ''}"]
    absent = [pair.path for pair in comparison.pairs if pair.paired_by is None]
    parts += [f"not found: {_paths(absent)}"] if absent else []
    parts += [f"only in the target: {_paths([norm.path for norm in comparison.added])}"] if comparison.added else []
    return "; ".join(parts)


def _paths(paths: list[str]) -> str:
    return fold_line([clean(path, LONGEST_NAME) or "(root)" for path in paths])


def _folds(folds: list[FoldCheck]) -> str:
    holding = [fold for fold in folds if fold.holds]
    broken = sum(fold.holds is False for fold in folds)
    open_ended = sum(fold.holds is None for fold in folds)
    parts = []
    if holding:
        worst = max(fold.deviation for fold in holding)
        parts.append(f"{len(holding)} of {len(folds)} hold (largest relative deviation {figure(worst)})")
    parts += [f"{broken} of {len(folds)} do not hold"] if broken else []
    parts += [f"{open_ended} of {len(folds)} not computed"] if open_ended else []
    inferred = inferred_eps(folds)
    if inferred:
        parts.append(f"eps {inferred} inferred from the scales, since the reference records none")
    return "; ".join(parts)


def inferred_eps(folds: Iterable[FoldCheck]) -> str:
    """Return every eps that was inferred, in ascending order; ``""`` for none."""
    values = sorted({fold.eps for fold in folds if fold.eps_inferred and fold.eps is not None})
    return ", ".join(map(figure, values))


def fold_row(pair: LayerPair) -> tuple[str, ...] | None:
    """Return (layer, into, verdict, deviation, eps) of a folded layer; None for another one."""
    fold = pair.fold
    if fold is None:
        return None
    verdict = {True: "holds", False: "does not hold", None: "not computed"}[fold.holds]
    detail = f"{verdict}: {clean(fold.why)}" if fold.why else verdict
    eps = "" if fold.eps is None else f"{fold.eps:.6g}{' (inferred)' if fold.eps_inferred else ''}"
    where = "" if fold.channel is None else f"{figure(fold.deviation)} at channel {fold.channel}"
    return clean(pair.path, LONGEST_NAME), clean(fold.into, LONGEST_NAME), detail, where, eps
