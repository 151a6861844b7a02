"""The parts of a finding in words."""

from __future__ import annotations

from bn_audit.reporters._fold import fold_line
from bn_audit.styled import clean
from bn_audit.subject.finding import Confidence, Finding, Location
from bn_audit.subject.report import Report

LONGEST_NAME = 400
"""Characters shown of one name out of a file."""


def place(location: Location) -> str:
    """Return where a finding points: the tensor where it is one, else the layer or node; the model before it."""
    path = location.path or location.node or "(root)"
    model = f"{location.model}: " if location.model else ""
    if location.tensor is None:
        return model + path
    return model + (location.tensor if location.tensor.startswith(location.path) else f"{path} {location.tensor}")


def where(finding: Finding, limit: int) -> str:
    """Return the places of a finding as at most `limit` patterns; ``""`` for a finding about the whole artifact."""
    return fold_line([clean(place(location), LONGEST_NAME) for location in finding.locations], limit)


def certainty(finding: Finding) -> str:
    """Return `` (medium confidence)``; ``""`` for high confidence."""
    return "" if finding.confidence is Confidence.HIGH else f" ({finding.confidence.value} confidence)"


def paragraphs(finding: Finding, limit: int) -> list[str]:
    """Return what is wrong, where and what to do, each in one line without control characters."""
    places = where(finding, limit)
    return [
        clean(finding.message) + certainty(finding),
        *([f"where: {places}"] if places else []),
        f"fix: {clean(finding.remedy)}",
    ]


def unchecked(report: Report) -> list[tuple[list[str], str]]:
    """Return (codes, reason) for what was not checked, one entry for each reason."""
    by_reason: dict[str, list[str]] = {}
    for skipped in report.skipped:
        by_reason.setdefault(skipped.reason, []).append(skipped.code)
    return [(list(dict.fromkeys(codes)), clean(reason)) for reason, codes in by_reason.items()]
