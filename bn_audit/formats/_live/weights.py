"""Fits the keys of a weights file to a module's state dict, as ``load_state_dict`` would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bn_audit.alignment.keys import Side, Spec, align_keys, best_prefixes
from bn_audit.subject.key_alignment import KeyAlignment
from bn_audit.subject.norm import NormLayer
from bn_audit.subject.subject import Form, Model, Subject
from bn_audit.subject.tensor import TensorRef

THE_MODEL = "the model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the module's state dict holds under one key.

    Attributes:
        dtype: By PyTorch's name.
        first_key: The first key under which the same tensor stands; files that store each tensor once lack the others.
    """

    shape: tuple[int, ...]
    dtype: str
    first_key: str


def fit_weights(
    weights: Subject, expected: Mapping[str, Expected], norms: Sequence[NormLayer]
) -> tuple[KeyAlignment, tuple[NormLayer, ...]]:
    """Return how the keys fit, and the norm layers with the file's tensors in place of the module's own.

    Args:
        weights: A file with at least one state dict; of several the one that fits best is taken.
        expected: Every tensor of the module's state dict.
        norms: The module's layers. A tensor that the file lacks keeps the module's own value, as it does under
            ``strict=False``.
    """
    own = {name: Spec(shape=item.shape, dtype=item.dtype) for name, item in expected.items()}
    model_side = Side(name=THE_MODEL, tensors=own)
    state_dicts = [model for model in weights.models if model.form is Form.STATE_DICT]
    sides = [_side(weights, model) for model in state_dicts]
    fits = [best_prefixes(model_side, side) for side in sides]
    order = range(len(state_dicts))
    best = max(order, key=lambda index: (fits[index][1], -len(fits[index][0].target), -index))
    loading = align_keys(model_side, sides[best], expected_by=THE_MODEL)
    stored = {ref.name: ref for ref in state_dicts[best].tensors}
    shared = {expected[match.reference].first_key for match in loading.matched}
    missing = tuple(name for name in loading.missing if expected[name].first_key not in shared)
    usable = {match.reference: stored[match.target] for match in loading.matched}
    return replace(loading, missing=missing), tuple(_with_weights(norm, usable) for norm in norms)


def _side(weights: Subject, model: Model) -> Side:
    return Side(
        name=weights.source if not model.route else f"{weights.source} ({model.route})",
        tensors={ref.name: Spec(shape=ref.shape, dtype=ref.dtype) for ref in model.tensors},
        route=model.route,
    )


def _with_weights(norm: NormLayer, stored: Mapping[str, TensorRef]) -> NormLayer:
    replaced = {role: stored.get(ref.name, ref) for role, ref in norm.tensors.items()}
    return replace(norm, **replaced)  # type: ignore[arg-type]
