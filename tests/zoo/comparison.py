"""What the audit says and what torch says, in one plain shape that tests compare with ==."""

from __future__ import annotations

from collections.abc import Iterable

from bn_audit.errors import TensorUnavailableError
from bn_audit.subject.norm import NormLayer
from bn_audit.subject.tensor import TensorRef
from zoo.truth import TrueLayer, TrueTensor

Plain = dict[str, object]


def audited(norms: Iterable[NormLayer]) -> dict[str, Plain]:
    """Return what the audit says, by path."""
    found: dict[str, Plain] = {}
    for norm in norms:
        assert norm.path not in found, f"{norm.path} is listed twice"
        found[norm.path] = {
            "kind": norm.kind.value,
            "type_name": norm.type_name,
            "mode": norm.mode.value,
            "uses_batch_statistics": norm.uses_batch_statistics,
            "num_features": norm.num_features,
            "eps": norm.eps,
            "momentum": norm.momentum,
            "cumulative": norm.cumulative,
            "affine": norm.affine,
            "track_running_stats": norm.track_running_stats,
            "requires_grad": norm.requires_grad,
            "registered": norm.registered,
            "uninitialised": norm.uninitialised,
            "aliases": sorted(norm.aliases),
            "tensors": {role: loaded(ref) for role, ref in norm.tensors.items()},
        }
    return found


def true(layers: Iterable[TrueLayer]) -> dict[str, Plain]:
    """Return what torch says, by path."""
    return {
        layer.path: {
            "kind": layer.kind,
            "type_name": layer.type_name,
            "mode": "train" if layer.training else "eval",
            "uses_batch_statistics": layer.uses_batch_statistics,
            "num_features": layer.num_features,
            "eps": layer.eps,
            "momentum": layer.momentum,
            "cumulative": layer.cumulative,
            "affine": layer.affine,
            "track_running_stats": layer.track_running_stats,
            "requires_grad": layer.requires_grad,
            "registered": layer.registered,
            "uninitialised": layer.uninitialised,
            "aliases": sorted(layer.aliases),
            "tensors": dict(layer.tensors),
        }
        for layer in layers
    }


def loaded(ref: TensorRef) -> TrueTensor:
    """Return a tensor of the audit with its bytes; without where the artifact holds none."""
    try:
        data = ref.load()
    except TensorUnavailableError:
        data = None
    return TrueTensor(dtype=ref.dtype, shape=ref.shape, data=data)


def only(layers: dict[str, Plain], *fields: str) -> dict[str, Plain]:
    """Return the layers with these fields alone."""
    return {path: {field: layer[field] for field in fields} for path, layer in layers.items()}
