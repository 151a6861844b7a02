"""The parts of a finding in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bn_audit.reporters._fold import fold_line
from bn_audit.styled import clean
from bn_audit.subject.finding import Confidence, Finding, Location
from bn_audit.subject.report import Audit, Report

if TYPE_CHECKING:
    from bn_audit.subject.waiver import KnownFinding, WaivedFinding, Waiver

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


def terms(waived: WaivedFinding) -> str:
    """Return how long a waiver holds and which design it declares: `` until 2030-12-31 (mc-dropout)``."""
    end = "" if waived.expires is None else f" until {waived.expires.isoformat()}"
    return f"{end} ({waived.intent.value})" if waived.intent is not None else end


def stale(audit: Audit) -> list[str]:
    """Return the waivers and entries of the baseline that nothing answers to any more, a sentence each."""
    unused = [
        f"waiver of {_waived_by(item)} ({item.origin}) found nothing to waive: {item.reason}"
        for item in audit.unused_waivers
    ]
    resolved = [f"{_known(item)} is in the baseline and no longer occurs" for item in audit.resolved]
    return [clean(text) for text in (*unused, *resolved)]


def _waived_by(waiver: Waiver) -> str:
    return ", ".join(waiver.codes) if waiver.intent is None else waiver.intent.value


def _known(item: KnownFinding) -> str:
    places = " ".join(filter(None, (item.model, item.place, item.tensor)))
    return f"{item.code} of {item.source}{f' at {places}' if places else ''}"


def unchecked(report: Report) -> list[tuple[list[str], str]]:
    """Return (codes, reason) for what was not checked, one entry for each reason."""
    by_reason: dict[str, list[str]] = {}
    for skipped in report.skipped:
        by_reason.setdefault(skipped.reason, []).append(skipped.code)
    return [(list(dict.fromkeys(codes)), clean(reason)) for reason, codes in by_reason.items()]
