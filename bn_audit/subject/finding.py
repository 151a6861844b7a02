"""Findings: what a rule reports, where, how sure it is and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

EvidenceValue = str | int | float | bool | None | list["EvidenceValue"] | dict[str, "EvidenceValue"]
"""What JSON can hold; NaN and infinities are written as the strings ``"nan"``, ``"inf"`` and ``"-inf"``."""


class Severity(Enum):
    """How bad a finding is for the declared intent; ordered by `rank`."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    @property
    def rank(self) -> int:
        """2 for an error, 1 for a warning, 0 for a note."""
        return {"error": 2, "warning": 1, "note": 0}[self.value]


class Confidence(Enum):
    """How sure a rule is that the finding is true."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Intent(Enum):
    """What the artifact is meant for; it decides the severity of some rules."""

    DEPLOY = "deploy"
    RESUME = "resume"
    """A training checkpoint to continue from: training mode is normal."""
    FINETUNE = "finetune"


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A layer, tensor or node of one model in the artifact."""

    model: str = ""
    path: str = ""
    tensor: str | None = None
    node: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One result of one rule for one cause, with every place it concerns.

    Attributes:
        message: What is wrong, with the actual values; one sentence without a final stop.
        locations: Every layer or tensor concerned, in the artifact's order; empty for the artifact as a whole.
        evidence: The figures behind the message, as JSON values.
        remedy: What to do, in one or two sentences.
    """

    code: str
    name: str
    severity: Severity
    confidence: Confidence
    message: str
    remedy: str
    locations: tuple[Location, ...] = ()
    evidence: Mapping[str, EvidenceValue] = field(default_factory=dict)

    @property
    def places(self) -> tuple[Location, ...]:
        """The locations; one empty location for a finding about the artifact as a whole."""
        return self.locations or (Location(),)

    def only(self, kept: Sequence[Location], why: str | None = None) -> Finding:
        """Return the part of this finding at some of its locations.

        Args:
            why: What became of the others, for the message; None where that is told elsewhere.
        """
        count = len(self.places) - len(kept)
        if not count:
            return self
        told = f"; {count} of these {'is' if count == 1 else 'are'} {why}" if why else ""
        return replace(self, message=f"{self.message}{told}", locations=tuple(kept))
