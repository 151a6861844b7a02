"""Layers grouped by model, since a finding speaks of one model and of all its layers that share a cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import ModeOrigin, NormLayer
from bn_audit.subject.subject import Subject

ONNX_ORIGINS = frozenset({ModeOrigin.ONNX_ATTRIBUTE, ModeOrigin.ONNX_LEGACY, ModeOrigin.ONNX_COMPUTED})
"""Where layers of an ONNX graph state their mode; their statistics are inputs, so none need be stored."""


def has_norms(subject: Subject) -> bool:
    """Return whether there is any normalisation layer."""
    return bool(subject.norms)


def by_model(norms: Iterable[NormLayer]) -> dict[str, list[NormLayer]]:
    """Return the layers by the route of their model, in the artifact's order."""
    groups: dict[str, list[NormLayer]] = {}
    for norm in norms:
        groups.setdefault(norm.model, []).append(norm)
    return groups


def stores_no_statistics(norm: NormLayer) -> bool:
    """Return whether neither a running mean nor a running variance is stored, so that only the batch's can be used."""
    return norm.running_mean is None and norm.running_var is None


def batch_norm_counts(subject: Subject) -> Counter[str]:
    """Return the number of batch norms of each model, by its route."""
    return Counter(norm.model for norm in subject.norms if norm.kind.is_batch_norm)


def norm_counts(subject: Subject) -> Counter[str]:
    """Return the number of normalisation layers of each model, by its route."""
    return Counter(norm.model for norm in subject.norms)


def surest(norms: Iterable[NormLayer]) -> Confidence:
    """Return the confidence of the surest layer: a finding is true as soon as one of its layers is."""
    order = (Confidence.HIGH, Confidence.MEDIUM, Confidence.LOW)
    return min((norm.confidence for norm in norms), key=order.index, default=Confidence.LOW)


def counted(part: int, whole: int, verb: tuple[str, str], *, route: str = "", noun: str = "batch-norm layer") -> str:
    """Return the subject and verb of a message, such as ``3 of 53 batch-norm layers in 'ema' are``.

    Args:
        verb: Singular and plural form.
        route: Route of the model; ``""`` for a model at the top, which needs no name.
    """
    where = f" in '{route}'" if route else ""
    return f"{part} of {whole} {noun}{'' if whole == 1 else 's'}{where} {verb[0] if part == 1 else verb[1]}"


def several(count: int, noun: str, *, route: str = "") -> str:
    """Return a number of things, such as ``2 norm layers in 'ema'``."""
    return f"{count} {noun}{'' if count == 1 else 's'}" + (f" in '{route}'" if route else "")
