"""Waivers applied: what they take out of a report, which have expired, and which waive nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from fnmatch import fnmatchcase

from bn_audit.alignment.naming import paths_above
from bn_audit.subject.design import Design
from bn_audit.subject.finding import Finding, Location
from bn_audit.subject.report import Report
from bn_audit.subject.source_name import is_match, within
from bn_audit.subject.waiver import WaivedFinding, Waiver


def today() -> date:
    """Return the day on which waivers are judged, in local time."""
    return date.today()


def applying(waivers: Iterable[Waiver], source: str) -> tuple[Waiver, ...]:
    """Return the waivers that are about a source."""
    names: dict[str, str] = {}
    chosen = []
    for waiver in waivers:
        if waiver.path is not None and waiver.directory not in names:
            names[waiver.directory] = within(source, waiver.directory or ".")
        if waiver.path is None or is_match(waiver.path, names[waiver.directory]):
            chosen.append(waiver)
    return tuple(chosen)


def declaring(waivers: Iterable[Waiver], source: str, day: date) -> tuple[Waiver, ...]:
    """Return the waivers that declare a design for a source on a day."""
    return tuple(
        waiver for waiver in applying(waivers, source) if waiver.intent is not None and not _is_expired(waiver, day)
    )


def declared(waivers: Iterable[Waiver], source: str, day: date) -> frozenset[Design]:
    """Return the designs that waivers declare for a source on a day."""
    return frozenset(waiver.intent for waiver in declaring(waivers, source, day) if waiver.intent is not None)


def is_about(waiver: Waiver, place: Location) -> bool:
    """Return whether a waiver is about a place: about every one, or by a pattern that matches it."""
    return waiver.layer is None or any(fnmatchcase(name, waiver.layer) for name in _names(place))


def waive(report: Report, waivers: Sequence[Waiver], day: date) -> tuple[Report, frozenset[Waiver]]:
    """Return the report without what is waived, and the waivers that match something in it, expired or not.

    Only the locations that a waiver matches leave a finding; what one matches that has expired stays, and says so.
    """
    own = applying(waivers, report.source)
    if not own or not report.findings:
        return report, frozenset()
    kept: list[Finding] = []
    waived: list[WaivedFinding] = []
    used: set[Waiver] = set()
    norms = _norm_places(report)
    for finding in report.findings:
        chosen = {place: _first(own, finding, place, norms, day) for place in finding.places}
        used |= {waiver for waiver in chosen.values() if waiver is not None}
        rest = finding
        for waiver in dict.fromkeys(waiver for waiver in chosen.values() if waiver is not None):
            matched = [place for place, by in chosen.items() if by is waiver]
            if _is_expired(waiver, day):
                rest = replace(rest, message=f"{rest.message}; {_expiry(waiver, len(matched), len(chosen))}")
            else:
                part = finding.only(matched)
                waived.append(
                    WaivedFinding(finding=part, reason=waiver.reason, expires=waiver.expires, intent=waiver.intent)
                )
        valid = [place for place, by in chosen.items() if by is None or _is_expired(by, day)]
        if len(valid) == len(chosen):
            kept.append(rest)
        elif valid:
            kept.append(rest.only(valid, "waived"))
    return replace(report, findings=tuple(kept), waived=(*report.waived, *waived)), frozenset(used)


def unused(
    waivers: Sequence[Waiver],
    used: frozenset[Waiver],
    reports: Sequence[Report],
    was_judged: Callable[[str, Report], bool],
    *,
    are_all: bool,
) -> tuple[Waiver, ...]:
    """Return the waivers that nothing called for although every source that they are about was judged.

    Args:
        was_judged: Tells whether a rule could have found something in a report.
        are_all: These are all the sources that there are, so that a waiver about none of them is not needed either.
    """
    about: dict[Waiver, list[Report]] = {waiver: [] for waiver in waivers}
    for report in reports:
        for waiver in applying(waivers, report.source):
            about[waiver].append(report)
    idle = []
    for waiver, own in about.items():
        is_judged = all(was_judged(code, report) for code in waiver.codes for report in own)
        if waiver not in used and is_judged and (own or are_all):
            idle.append(waiver)
    return tuple(idle)


def _first(waivers: Sequence[Waiver], finding: Finding, place: Location, norms: _Places, day: date) -> Waiver | None:
    """Return the waiver of one location: the first that holds, else the first that has expired."""
    matching = [waiver for waiver in waivers if _covers(waiver, finding, place, norms)]
    valid = (waiver for waiver in matching if not _is_expired(waiver, day))
    return next(valid, matching[0] if matching else None)


def _covers(waiver: Waiver, finding: Finding, place: Location, norms: _Places) -> bool:
    if finding.code not in waiver.codes:
        return False
    own = {(place.model, place.path, None), (place.model, "", place.node)}
    if waiver.intent is Design.BATCH_STATISTICS and not own & norms:
        return False  # a design that uses batch statistics mixes samples nowhere but in norm layers
    return is_about(waiver, place)


_Places = frozenset[tuple[str, str, str | None]]


def _norm_places(report: Report) -> _Places:
    """Return the norm layers as (model, path, None) and (model, "", node), as far as they have either."""
    by_path = {(norm.model, norm.path, None) for norm in report.norms if norm.path or not norm.node}
    by_node = {(norm.model, "", norm.node) for norm in report.norms if norm.node}
    return frozenset(by_path | by_node)


def _names(place: Location) -> Iterator[str]:
    """Yield what a pattern may call a place: its layer and those above it, its node or tensor, each with its model."""
    names = [*paths_above(place.path), *filter(None, (place.node, place.tensor))]
    yield from names
    if place.model:
        yield place.model
        yield from (f"{place.model}.{name}" for name in names)


def _is_expired(waiver: Waiver, day: date) -> bool:
    return waiver.expires is not None and waiver.expires < day


def _expiry(waiver: Waiver, matched: int, whole: int) -> str:
    of_these = "" if matched == whole else f" of {matched} of these"
    return f"the waiver{of_these} expired on {waiver.expires} ({waiver.origin or waiver.reason})"
