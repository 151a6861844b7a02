"""Fits the keys of a weights file to a module's state dict, as ``load_state_dict`` would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bn_audit.subject.norm import NormLayer
from bn_audit.subject.subject import Form, Loading, Model, Subject
from bn_audit.subject.tensor import HALF_PRECISION, TensorRef

WRAPPER_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.")
"""What wrappers and checkpoints put before the names of the model inside: DataParallel, torch.compile, Lightning ..."""


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
) -> tuple[Loading, tuple[NormLayer, ...]]:
    """Return how the keys fit, and the norm layers with the file's tensors in place of the module's own.

    Args:
        weights: A file with at least one state dict; of several the one that fits best is taken.
        expected: Every tensor of the module's state dict.
        norms: The module's layers. A tensor that the file lacks keeps the module's own value, as it does under
            ``strict=False``.
    """
    state_dicts = [model for model in weights.models if model.form is Form.STATE_DICT]
    fits = [
        (_count(model, prefix, expected), -len(prefix), order, model, prefix)
        for order, model in enumerate(state_dicts)
        for prefix in ("", *_prefixes(model))
    ]
    _matches, _shortness, _order, model, prefix = max(fits, key=lambda fit: (fit[0], fit[1], -fit[2]))
    stored = {ref.name.removeprefix(prefix): ref for ref in model.tensors}
    mismatched = tuple(
        (name, difference)
        for name, own in expected.items()
        if name in stored and (difference := _difference(name, stored[name], own)) is not None
    )
    wrong = {name for name, _what in mismatched}
    shared = {own.first_key for name, own in expected.items() if name in stored}
    loading = Loading(
        weights=weights.source if not model.route else f"{weights.source} ({model.route})",
        matched=tuple(name for name in expected if name in stored and name not in wrong),
        missing=tuple(name for name, own in expected.items() if name not in stored and own.first_key not in shared),
        unexpected=tuple(name for name in stored if name not in expected),
        mismatched=mismatched,
        prefix=prefix,
    )
    usable = {name: ref for name, ref in stored.items() if name in expected and ref.shape == expected[name].shape}
    return loading, tuple(_with_weights(norm, usable) for norm in norms)


def _difference(name: str, ref: TensorRef, own: Expected) -> str | None:
    """Return how a tensor of the file differs from the model's; None where it loads without harm.

    Another precision is what half-precision files are for, but for running statistics.
    """
    if ref.shape != own.shape:
        return f"shape {list(ref.shape)}, the model has {list(own.shape)}"
    is_cast = ref.dtype in HALF_PRECISION and own.dtype not in HALF_PRECISION and name.endswith(_STATISTICS)
    is_other_kind = _is_real(own.dtype) and not _is_real(ref.dtype)
    return f"dtype {ref.dtype}, the model has {own.dtype}" if is_cast or is_other_kind else None


_STATISTICS = ("running_mean", "running_var")


def _is_real(dtype: str) -> bool:
    return dtype.startswith(("float", "bfloat"))


def _prefixes(model: Model) -> tuple[str, ...]:
    """Return the prefixes that every key of a state dict bears, alone and together."""
    names = [ref.name for ref in model.tensors]
    found = []
    prefix = ""
    while names:
        rest = names[0].removeprefix(prefix)
        step = next((item for item in WRAPPER_PREFIXES if rest.startswith(item)), f"{rest.partition('.')[0]}.")
        if not all(name.startswith(prefix + step) for name in names):
            break
        prefix += step
        found.append(prefix)
    return tuple(found)


def _count(model: Model, prefix: str, expected: Mapping[str, Expected]) -> int:
    return sum(ref.name.startswith(prefix) and ref.name[len(prefix) :] in expected for ref in model.tensors)


def _with_weights(norm: NormLayer, stored: Mapping[str, TensorRef]) -> NormLayer:
    replaced = {role: stored.get(ref.name, ref) for role, ref in norm.tensors.items()}
    return replace(norm, **replaced)  # type: ignore[arg-type]
