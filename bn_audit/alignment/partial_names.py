"""How the names fit where one side is a graph, which keeps only some of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from bn_audit.alignment.keys import dtype_matters
from bn_audit.alignment.model_side import ModelSide
from bn_audit.alignment.pairing import Alignment
from bn_audit.subject.key_alignment import KeyAlignment, KeyMatch, KeyMismatch
from bn_audit.subject.norm import NormLayer
from bn_audit.subject.tensor import TensorRef
from bn_audit.subject.weighted import WeightedLayer

COUNTER = "num_batches_tracked"


def keys_of_graph(alignment: Alignment) -> KeyAlignment:
    """Return how the names fit; where a side is incomplete, those of norm layers and weights that were paired.

    Counters, biases and what is no weight of a convolution or linear layer are left out there: exporters drop, rename
    and compute such tensors as they like.
    """
    if alignment.reference.complete and alignment.target.complete:
        return alignment.keys
    missing, added = alignment.unpaired()
    matched, mismatched = _matches(alignment)
    paired = {id(pair.reference) for pair in alignment.weights} | {id(pair.target) for pair in alignment.weights}
    norm_names = {ref.name for side in _sides(alignment) for norm in side.norms for ref in norm.tensors.values()}
    lost = [
        layer
        for layer in alignment.reference.weighted
        if id(layer) not in paired and layer.weight.name not in norm_names
    ]
    new = [
        layer for layer in alignment.target.weighted if id(layer) not in paired and layer.weight.name not in norm_names
    ]
    return replace(
        alignment.keys,
        matched=tuple(matched),
        missing=(
            *_of_norms(missing),
            *(name for pair in alignment.norms for name in _lacking(pair.reference, pair.target)),
            *_of_weights(lost, alignment.target),
        ),
        unexpected=(
            *_of_norms(added),
            *(name for pair in alignment.norms for name in _lacking(pair.target, pair.reference)),
            *_of_weights(new, alignment.reference),
        ),
        mismatched=tuple(mismatched),
        complete=False,
    )


def _sides(alignment: Alignment) -> tuple[ModelSide, ModelSide]:
    return alignment.reference, alignment.target


def _matches(alignment: Alignment) -> tuple[list[KeyMatch], list[KeyMismatch]]:
    matched: list[KeyMatch] = []
    mismatched: list[KeyMismatch] = []
    pairs: list[tuple[str, TensorRef, str, TensorRef]] = []
    for norms in alignment.norms:
        mine, theirs = norms.reference.tensors, norms.target.tensors
        pairs.extend(
            (
                _name(norms.reference, role, mine[role]),
                mine[role],
                _name(norms.target, role, theirs[role]),
                theirs[role],
            )
            for role in mine
            if role in theirs and role != COUNTER
        )
    pairs.extend(
        (_weight_name(weights.reference), weights.reference.weight, _weight_name(weights.target), weights.target.weight)
        for weights in alignment.weights
    )
    for name, one, other_name, other in pairs:
        # A matrix may lie transposed in a graph, and a statistic have axes of size 1 around its channels.
        if one.numel == other.numel:
            matched.append(KeyMatch(reference=name, target=other_name))
        else:
            difference = f"shape {list(other.shape)}, the reference has {list(one.shape)}"
            mismatched.append(KeyMismatch(reference=name, target=other_name, difference=difference, is_shape=True))
        if one.numel == other.numel and dtype_matters(name, one.dtype, other.dtype):
            difference = f"dtype {other.dtype}, the reference has {one.dtype}"
            mismatched.append(KeyMismatch(reference=name, target=other_name, difference=difference, is_shape=False))
    return matched, mismatched


def _name(norm: NormLayer, role: str, ref: TensorRef) -> str:
    return ref.name if ref.name.rpartition(".")[0] == norm.path else f"{norm.path}.{role}"


def _weight_name(layer: WeightedLayer) -> str:
    name = layer.weight.name
    return name if not layer.path or name.rpartition(".")[0] == layer.path else f"{layer.path}.weight"


def _lacking(norm: NormLayer, other: NormLayer) -> Iterator[str]:
    """Yield the statistics of a layer that its counterpart lacks; exporters may make up or drop a scale of ones."""
    for role in ("running_mean", "running_var"):
        if role in norm.tensors and role not in other.tensors:
            yield _name(norm, role, norm.tensors[role])


def _of_norms(norms: Sequence[NormLayer]) -> Iterator[str]:
    for norm in norms:
        yield from (_name(norm, role, ref) for role, ref in norm.tensors.items() if role != COUNTER)


def _of_weights(layers: Sequence[WeightedLayer], other: ModelSide) -> Iterator[str]:
    """Yield the weights that the other side has nowhere: not among what its other operators use either."""
    sizes = {ref.numel for ref in other.loose}
    names = {ref.name for ref in other.loose} | other.tensors.keys()
    for layer in layers:
        if layer.weight.name not in names and layer.weight.numel not in sizes:
            yield _weight_name(layer)
