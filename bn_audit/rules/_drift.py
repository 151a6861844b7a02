"""What a comparison says about the layers of an artifact, in the words of findings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from bn_audit.rules._figures import LISTED, figure, readable
from bn_audit.subject.finding import EvidenceValue, Location
from bn_audit.subject.subject import Subject

if TYPE_CHECKING:
    from bn_audit.subject.comparison import Comparison
    from bn_audit.subject.drift import Extreme, LayerDrift

CONSTANTS = "CONSTANTS"
"""Where TorchScript keeps the tensors of a frozen module, which have lost their paths."""


def stands_beside_reference(subject: Subject) -> bool:
    """Return whether a reference was given."""
    return subject.comparison is not None


def drifts_of(subject: Subject) -> tuple[LayerDrift, ...]:
    """Return the drift of every batch norm that both sides have; nothing without a reference."""
    return subject.comparison.drift if subject.comparison is not None else ()


def by_model(drifts: Iterable[LayerDrift]) -> dict[str, list[LayerDrift]]:
    """Return the drifts by the route of the target's model."""
    groups: dict[str, list[LayerDrift]] = {}
    for drift in drifts:
        groups.setdefault(drift.location.model, []).append(drift)
    return groups


def weights_moved(comparison: Comparison, route: str) -> bool:
    """Return whether any scale, shift or other compared weight of a model differs."""
    drifts = [drift for drift in comparison.drift if drift.location.model == route]
    return any(drift.affine_moved for drift in drifts) or bool(comparison.values.mismatched)


def weights_compared(comparison: Comparison, route: str) -> bool:
    """Return whether any scale, shift or other weight of a model was compared."""
    drifts = [drift for drift in comparison.drift if drift.location.model == route]
    return any(drift.equal_affine is not None for drift in drifts) or bool(comparison.values.compared)


def claimed_frozen(subject: Subject) -> frozenset[Location]:
    """Return the batch norms that any pattern of the freeze policy matches."""
    return frozenset(location for pattern in subject.frozen for location in pattern.layers)


def tensor_location(name: str, *, model: str = "") -> Location:
    """Return where a finding about a tensor points: TorchScript's constants belong to no layer."""
    path, _, tensor = name.rpartition(".")
    return Location(model=model, tensor=name) if path == CONSTANTS else Location(model=model, path=path, tensor=tensor)


def largest(drifts: Sequence[LayerDrift], *, roles: Sequence[str]) -> tuple[LayerDrift, str, Extreme] | None:
    """Return the layer, role and size of the largest difference beyond its tolerance; not-a-number counts most.

    Args:
        roles: Among ``mean``, ``variance``, ``weight`` and ``bias``; the first that moved at all is taken, for their
            units differ.
    """
    for role in roles:
        found = [(drift, extreme) for drift in drifts if (extreme := _extreme(drift, role)) and extreme.beyond]
        if found:
            drift, extreme = max(found, key=lambda item: _rank(item[1].size))
            return drift, role, extreme
    return None


def _extreme(drift: LayerDrift, role: str) -> Extreme | None:
    return {"mean": drift.mean, "variance": drift.variance, "weight": drift.weight, "bias": drift.bias}[role]


def _rank(size: float) -> float:
    return size if size == size else float("inf")


_UNITS = {
    "mean": "the mean by {size} standard deviations",
    "variance": "the variance by {size} in its logarithm",
    "weight": "the weight by {size} of the layer's largest",
    "bias": "the bias by {size} of the layer's largest",
}


def described(drift: LayerDrift, role: str, extreme: Extreme) -> str:
    """Return a clause such as ``bn1: the mean by 0.31 standard deviations in channel 5, 0.2 to 0.5; tolerance ...``."""
    difference = _UNITS[role].format(size=readable(extreme.size))
    return (
        f"{drift.location.path or '(root)'}: {difference} in channel {extreme.channel}, "
        f"{readable(extreme.reference)} to {readable(extreme.target)}; tolerance {readable(extreme.tolerance)}"
    )


def evidence_of(drifts: Sequence[LayerDrift]) -> dict[str, EvidenceValue]:
    """Return the figures of the layers that moved most, with their tolerance and channels."""
    ordered = sorted(drifts, key=lambda drift: -drift.effect)[:LISTED]
    return {"layers": len(drifts), "largest": [_figures(drift) for drift in ordered]}


def _figures(drift: LayerDrift) -> EvidenceValue:
    found: dict[str, EvidenceValue] = {"path": drift.location.path}
    for role in ("mean", "variance", "weight", "bias"):
        extreme = _extreme(drift, role)
        if extreme is not None:
            found[role] = {
                "size": figure(extreme.size),
                "channel": extreme.channel,
                "reference": figure(extreme.reference),
                "target": figure(extreme.target),
                "channels_beyond": extreme.beyond,
                "tolerance": extreme.tolerance,
            }
    return found
