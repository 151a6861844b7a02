"""Known findings: written once on purpose, hidden and counted from then on.

A baseline holds findings, never what failed or was not checked, nor that a mode is not recorded (BN111): these say that
the audit does not know.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bn_audit.errors import UsageError
from bn_audit.subject.finding import Finding, Location
from bn_audit.subject.fingerprint import fingerprint
from bn_audit.subject.report import Report
from bn_audit.subject.source_name import within
from bn_audit.subject.waiver import KnownFinding

SCHEMA_ID = "bn-audit.baseline.v1"
NOT_KNOWN = frozenset({"BN111"})
"""Findings that say what the artifact does not record: never hidden."""
MAX_BYTES = 1 << 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The known findings by fingerprint, and the folder in which the names of their sources start."""

    directory: Path
    entries: dict[str, KnownFinding]


def read_baseline(file: Path) -> Baseline:
    """Return the content of a baseline.

    Raises:
        UsageError: it is missing, cannot be read, or is no baseline.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        advice = "write it with --write-baseline" if isinstance(error, FileNotFoundError) else "name a baseline"
        raise UsageError(f"baseline {file}: cannot be read ({error.strerror or error}): {advice}") from error
    if len(data) > MAX_BYTES:
        raise UsageError(
            f"baseline {file}: has more than {MAX_BYTES >> 20} MiB, which no baseline has: name another file"
        )
    try:
        entries = _entries_of(json.loads(data))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"baseline {file}: is no baseline of this version ({type(error).__name__}: {error}): write it anew with "
            "--write-baseline"
        ) from error
    return Baseline(directory=file.parent, entries=entries)


def _entries_of(content: dict[str, Any]) -> dict[str, KnownFinding]:
    if content["schema"] != SCHEMA_ID:
        raise ValueError(f"schema {content['schema']!r}")
    return {str(item["fingerprint"]): _known(item) for item in content["findings"]}


def _known(item: dict[str, Any]) -> KnownFinding:
    source, code, model, place = (item[name] for name in ("source", "code", "model", "place"))
    tensor, count = item["tensor"], item["count"]
    if not (isinstance(source, str) and isinstance(code, str) and isinstance(model, str) and isinstance(place, str)):
        raise TypeError("source, code, model and place are strings")
    if not isinstance(tensor, str | None) or not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise TypeError("tensor is a string or null, count a number from 1 up")
    known = KnownFinding(source=source, code=code, model=model, place=place, tensor=tensor, count=count)
    if item["fingerprint"] != _fingerprint(known):
        raise ValueError(f"the fingerprint of {code} in {source} belongs to something else")
    return known


def _fingerprint(known: KnownFinding) -> str:
    location = Location(model=known.model, path=known.place, tensor=known.tensor)
    return fingerprint(known.source, known.code, location)


def document(reports: Iterable[Report], directory: Path) -> bytes:
    """Return the text of a baseline that knows what `reports` have in theirs.

    Args:
        directory: The folder that the file goes to.
    """
    known: Counter[KnownFinding] = Counter()
    for report in reports:
        for finding in report.baselined:
            known.update(_entries(finding, within(report.source, directory)))
    entries = sorted(known, key=lambda item: (item.source, item.code, item.model, item.place, item.tensor or ""))
    findings = [
        {
            "fingerprint": _fingerprint(item),
            "source": item.source,
            "code": item.code,
            "model": item.model,
            "place": item.place,
            "tensor": item.tensor,
            "count": known[item],
        }
        for item in entries
    ]
    return (json.dumps({"schema": SCHEMA_ID, "findings": findings}, indent=1) + "\n").encode("ascii")


def _entries(finding: Finding, source: str) -> Iterator[KnownFinding]:
    for place in finding.places:
        yield KnownFinding(
            source=source,
            code=finding.code,
            model=place.model,
            place=place.path or place.node or "",
            tensor=place.tensor,
        )


def accept(report: Report) -> Report:
    """Return the report with every finding that a baseline may hold in its baseline."""
    return _moved(report, lambda finding, _place: finding.code not in NOT_KNOWN)


def hide_known(report: Report, baseline: Baseline) -> Report:
    """Return the report without what the baseline knows.

    Where something occurs more often than the baseline knows, all of it stays: which one is new cannot be told.
    """
    source = within(report.source, baseline.directory)
    found = _occurrences(report.findings, source)
    hidden = {
        _fingerprint(item)
        for item, number in found.items()
        if (entry := baseline.entries.get(_fingerprint(item))) is not None and number <= entry.count
    }

    def is_known(finding: Finding, place: Location) -> bool:
        return finding.code not in NOT_KNOWN and fingerprint(source, finding.code, place) in hidden

    return _moved(report, is_known) if hidden else report


def _occurrences(findings: Iterable[Finding], source: str) -> Counter[KnownFinding]:
    return Counter(entry for finding in findings for entry in _entries(finding, source))


def _moved(report: Report, is_known: Callable[[Finding, Location], bool]) -> Report:
    kept: list[Finding] = []
    known: list[Finding] = []
    for finding in report.findings:
        hidden: list[Location] = []
        shown: list[Location] = []
        for place in finding.places:
            (hidden if is_known(finding, place) else shown).append(place)
        if hidden:
            known.append(finding.only(hidden))
        if shown:
            kept.append(finding.only(shown, "in the baseline"))
    return replace(report, findings=tuple(kept), baselined=(*report.baselined, *known))


def resolved(
    baseline: Baseline, reports: Sequence[Report], was_judged: Callable[[str, Report], bool]
) -> tuple[KnownFinding, ...]:
    """Return the entries that no longer occur in the sources that were audited this time.

    Args:
        reports: With what waivers and the baseline took out of them.
        was_judged: Tells whether a rule could have found something in a report.
    """
    gone = []
    for report in reports:
        source = within(report.source, baseline.directory)
        own = [known for known in baseline.entries.values() if known.source == source]
        findings = (*report.findings, *report.baselined, *(item.finding for item in report.waived))
        found = {_fingerprint(item) for item in _occurrences(findings, source)} if own else set()
        gone += [known for known in own if was_judged(known.code, report) and _fingerprint(known) not in found]
    return tuple(gone)
