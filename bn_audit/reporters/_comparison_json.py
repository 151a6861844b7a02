"""The part of the JSON report that holds a comparison: how the sides align, the drift table, what was not compared."""

from __future__ import annotations

from dataclasses import fields

from bn_audit.reporters._comparison import by_effect
from bn_audit.reporters._json_values import Json, place, plain
from bn_audit.subject.comparison import Comparison, FoldCheck, LayerPair, ValueComparison
from bn_audit.subject.drift import Change, Extreme, LayerDrift
from bn_audit.subject.key_alignment import KeyAlignment
from bn_audit.subject.norm import NormLayer


def comparison_document(comparison: Comparison) -> dict[str, Json]:
    """Return a comparison; the drift table begins with the layer that moved most."""
    return {
        "reference_format": comparison.reference_format,
        "reference_size_bytes": comparison.reference_size_bytes,
        "reference_bytes_read": comparison.reference_bytes_read,
        "remarks": list(comparison.remarks),
        "models": [_fields(pair) for pair in comparison.models],
        "names": [_names(keys) for keys in comparison.keys],
        "layers": [_pair(pair) for pair in comparison.pairs],
        "added": [_layer(norm) for norm in comparison.added],
        "drift": [_drift(drift) for drift in by_effect(comparison)],
        "values": _values(comparison.values),
    }


def _names(keys: KeyAlignment) -> dict[str, Json]:
    return {
        "reference_route": keys.reference_route,
        "target_route": keys.target_route,
        "reference_prefix": keys.reference_prefix,
        "target_prefix": keys.target_prefix,
        "complete": keys.complete,
        "total": keys.total,
        "matched": [_fields(match) for match in keys.matched],
        "missing": list(keys.missing),
        "unexpected": list(keys.unexpected),
        "mismatched": [_fields(mismatch) for mismatch in keys.mismatched],
        "foreign": list(keys.foreign),
    }


def _pair(pair: LayerPair) -> dict[str, Json]:
    return {
        "reference": None if pair.reference is None else _layer(pair.reference),
        "target": None if pair.target is None else _layer(pair.target),
        "paired_by": None if pair.paired_by is None else pair.paired_by.value,
        "fold": None if pair.fold is None else _fields(pair.fold),
    }


def _layer(norm: NormLayer) -> dict[str, Json]:
    return {"model": norm.model, "path": norm.path, "node": norm.node}


def _drift(drift: LayerDrift) -> dict[str, Json]:
    return {
        "reference": drift.reference,
        "target": place(drift.location),
        "num_features": drift.num_features,
        "effect": plain(drift.effect),
        "mean": _extreme(drift.mean),
        "variance": _extreme(drift.variance),
        "weight": _extreme(drift.weight),
        "bias": _extreme(drift.bias),
        "rms_mean": plain(drift.rms_mean),
        "rms_variance": plain(drift.rms_variance),
        "eps": _change(drift.eps),
        "momentum": _change(drift.momentum),
        "num_batches_tracked": _change(drift.counter),
        "equal_statistics": drift.equal_statistics,
        "equal_affine": drift.equal_affine,
        "swapped": drift.swapped,
        "dtype_change": list(drift.dtype_change),
    }


def _extreme(extreme: Extreme | None) -> dict[str, Json] | None:
    return None if extreme is None else _fields(extreme)


def _change(change: Change) -> dict[str, Json]:
    return {"reference": plain(change.reference), "target": plain(change.target)}


def _values(values: ValueComparison) -> dict[str, Json]:
    return {
        "scope": values.scope.value,
        "compared": list(values.compared),
        "elements": values.elements,
        "mismatched": [_fields(mismatch) for mismatch in values.mismatched],
        "not_compared": [_fields(item) for item in values.not_compared],
    }


def _fields(item: FoldCheck | Extreme | object) -> dict[str, Json]:
    """Return the fields of flat data by name."""
    return {field.name: plain(getattr(item, field.name)) for field in fields(item)}  # type: ignore[arg-type]
