"""Matrices that another framework keeps the other way round than PyTorch.

Burn keeps the weight of a linear layer as (in, out), PyTorch as (out, in); its embeddings lie as PyTorch's do. Source:
burn ``nn/linear.rs``; burn-store ``adapter.rs``, which transposes the weights of linear layers alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.alignment.keys import Rules, align_keys
from bn_audit.alignment.model_side import ModelSide
from bn_audit.alignment.naming import is_foreign
from bn_audit.subject.key_alignment import KeyAlignment


def turned_alike(reference: ModelSide, target: ModelSide, rules: Rules) -> tuple[ModelSide, ModelSide, KeyAlignment]:
    """Return both sides and how their names fit, the matrices of a side in another framework's names turned to fit.

    Only where the names of norm layers show another framework on one side alone and a matrix has exactly the reversed
    shape: between two files of one framework such a matrix is a mistake.
    """
    keys = align_keys(reference.names(), target.names(), rules=rules)
    foreign = [_is_foreign(side) for side in (reference, target)]
    if sum(foreign) != 1:
        return reference, target, keys
    pairs = [(match.reference, match.target) for match in keys.matched]
    pairs += [(match.reference, match.target) for match in keys.mismatched if match.is_shape]
    turned = list(_turned(reference, target, pairs))
    if not any(reference.tensors[one].shape != target.tensors[other].shape for one, other in turned):
        return reference, target, keys
    if foreign[0]:
        reference = reference.with_turned(one for one, _ in turned)
    else:
        target = target.with_turned(other for _, other in turned)
    return reference, target, align_keys(reference.names(), target.names(), rules=rules)


def _is_foreign(side: ModelSide) -> bool:
    return any(is_foreign(ref.name) for norm in side.norms for ref in norm.tensors.values())


def _turned(reference: ModelSide, target: ModelSide, pairs: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of linear weights with reversed shapes; square ones fit either way."""
    linear = {layer.weight.name for layer in target.weighted if len(layer.weight.shape) == 2}
    for one, other in pairs:
        shape = reference.tensors[one].shape
        if other in linear and target.tensors[other].shape == shape[::-1]:
            yield one, other
