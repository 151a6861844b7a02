"""Which random calls of a graph really draw numbers in inference."""

from __future__ import annotations

from collections.abc import Iterable

from bn_audit.subject.finding import Confidence
from bn_audit.subject.subject import RandomCall, Subject


def live_calls(subject: Subject, *, dropout: bool) -> dict[str, list[RandomCall]]:
    """Return the calls that draw as the artifact is, by the route of their model.

    A dropout with probability 0 draws nothing; one that the caller switches at run time is not judged.
    """
    groups: dict[str, list[RandomCall]] = {}
    for call in subject.random_calls:
        if call.live is True and call.is_dropout is dropout and call.probability != 0.0:
            groups.setdefault(call.model, []).append(call)
    return groups


def certainty(calls: Iterable[RandomCall]) -> Confidence:
    """Return medium confidence where no dropout has a constant probability, since it may be 0."""
    return Confidence.HIGH if any(call.probability is not None for call in calls) else Confidence.MEDIUM


def probabilities(calls: Iterable[RandomCall]) -> list[float]:
    """Return the different probabilities in ascending order."""
    return sorted({call.probability for call in calls if call.probability is not None})
