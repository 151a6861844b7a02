"""Fits the keys of a weights file to a module's state dict, as ``load_state_dict`` would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bn_audit.alignment.keys import Side, Spec, align_keys, best_prefixes
from bn_audit.subject.key_alignment import KeyAlignment
from bn_audit.subject.norm import NormLayer
from bn_audit.subject.subject import Form, Model, Subject
from bn_audit.subject.tensor import TensorRef

THE_MODEL = "the model"


def fit_weights(
    weights: Subject, expected: Mapping[str, tuple[int, ...]], norms: Sequence[NormLayer]
) -> tuple[KeyAlignment, tuple[NormLayer, ...]]:
    """Return how the keys fit, and the norm layers with the file's tensors in place of the module's own.

    Args:
        weights: A file with at least one state dict; of several the one that fits best is taken.
        expected: Shape of every tensor of the module's state dict.
        norms: The module's layers. A tensor that the file lacks keeps the module's own value, as it does under
            ``strict=False``.
    """
    model_side = Side(name=THE_MODEL, tensors={name: Spec(shape=shape) for name, shape in expected.items()})
    state_dicts = [model for model in weights.models if model.form is Form.STATE_DICT]
    sides = [_side(weights, model) for model in state_dicts]
    fits = [best_prefixes(model_side, side) for side in sides]
    order = range(len(state_dicts))
    best = max(order, key=lambda index: (fits[index][1], -len(fits[index][0].target), -index))
    loading = align_keys(model_side, sides[best], expected_by=THE_MODEL)
    stored = {ref.name: ref for ref in state_dicts[best].tensors}
    usable = {match.reference: stored[match.target] for match in loading.matched}
    return loading, tuple(_with_weights(norm, usable) for norm in norms)


def _side(weights: Subject, model: Model) -> Side:
    return Side(
        name=weights.source if not model.route else f"{weights.source} ({model.route})",
        tensors={ref.name: Spec(shape=ref.shape) for ref in model.tensors},
        route=model.route,
    )


def _with_weights(norm: NormLayer, stored: Mapping[str, TensorRef]) -> NormLayer:
    replaced = {role: stored.get(ref.name, ref) for role, ref in norm.tensors.items()}
    return replace(norm, **replaced)  # type: ignore[arg-type]
