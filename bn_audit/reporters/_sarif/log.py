"""The log: one run, one result for each finding, and what was not checked as notifications.

Source: SARIF 2.1.0, OASIS standard; and what GitHub's code scanning reads of it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from bn_audit.reporters._finding_text import LONGEST_NAME, certainty, place, stale, terms, unchecked
from bn_audit.reporters._json_values import Json, plain
from bn_audit.reporters._portable import portable
from bn_audit.reporters._sarif.rule_help import descriptor
from bn_audit.reporters._verdict import strictly
from bn_audit.styled import clean
from bn_audit.subject.finding import Finding, Location
from bn_audit.subject.fingerprint import fingerprint
from bn_audit.subject.report import Audit, Report
from bn_audit.version import VERSION

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
FINGERPRINT = "bnAuditFinding/v1"
PLACES = 1000
"""Logical locations written for one finding: GitHub refuses a result with more locations."""

NAMED = 12
"""Places that a message names; the logical locations have all."""

EXIT_CODES = {
    0: "nothing at or above the level that fails",
    1: "findings at or above the level that fails",
    3: "something asked for could not be audited",
}

LAYER, TENSOR, NODE, MODEL = "module", "variable", "node", "object"
"""Kinds of logical locations: SARIF's own words where one fits."""

_MEANT_AS_MARKUP = re.compile(r"([\\\[\]])")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A report and its number among the artifacts of the run."""

    report: Report
    index: int
    rules: dict[str, int]


def document(audit: Audit) -> str:
    """Return the log as JSON in ASCII."""
    audit = portable(audit)
    indices = {rule.code: index for index, rule in enumerate(audit.rules)}
    sources = [_Source(report=report, index=index, rules=indices) for index, report in enumerate(audit.reports)]
    run: dict[str, Json] = {
        "tool": {
            "driver": {
                "name": "bn-audit",
                "version": VERSION,
                "semanticVersion": VERSION,
                "rules": [descriptor(rule) for rule in audit.rules],
            }
        },
        "invocations": [_invocation(audit, sources)],
        "artifacts": [_artifact(source) for source in sources],
        "results": [result for source in sources for result in _results(source)],
        "columnKind": "unicodeCodePoints",
        "properties": {
            "intent": audit.intent.value,
            "failOn": audit.fail_on.value,
            "settings": None if audit.settings is None else clean(audit.settings),
        },
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, allow_nan=False) + "\n"


def _invocation(audit: Audit, sources: list[_Source]) -> dict[str, Json]:
    return {
        "executionSuccessful": not any(report.failed for report in audit.reports),
        "exitCode": audit.exit_code,
        "exitCodeDescription": strictly(audit) or EXIT_CODES.get(audit.exit_code, "see the documentation"),
        "toolExecutionNotifications": [item for source in sources for item in _notifications(source)],
        "toolConfigurationNotifications": [{"level": "note", "message": _message(row)} for row in stale(audit)],
    }


def _notifications(source: _Source) -> Iterator[Json]:
    """Yield what failed and what was not checked: a log without results must not read as clean."""
    for failure in source.report.failed:
        rule = failure.stage if failure.stage in source.rules else None
        yield _notification(source, "error", f"{failure.stage} failed: {clean(failure.error)}", rule)
    for codes, reason in unchecked(source.report):
        for code in codes:
            rule = code if code in source.rules else None
            yield _notification(source, "note", f"{code} not checked: {reason}", rule)
    for part in source.report.unread:
        yield _notification(source, "warning", f"not read: {clean(part)}", None)


def _notification(source: _Source, level: str, text: str, code: str | None) -> dict[str, Json]:
    told: dict[str, Json] = {"level": level, "message": _message(text), "locations": [_physical(source)]}
    if code is not None:
        told["associatedRule"] = {"id": code, "index": source.rules[code]}
    return told


def _artifact(source: _Source) -> dict[str, Json]:
    report = source.report
    known: dict[str, Json] = {
        "location": {"uri": uri(report.source)},
        "roles": ["analysisTarget"],
        "properties": {"format": report.format, "intent": report.intent.value},
    }
    if report.size_bytes:
        known["length"] = report.size_bytes
    return known


def _results(source: _Source) -> Iterator[Json]:
    for finding in source.report.findings:
        yield _result(source, finding)
    for waived in source.report.waived:
        yield _result(source, waived.finding, f"waived{terms(waived)}: {clean(waived.reason)}")
    for finding in source.report.baselined:
        yield _result(source, finding, "known: it is in the baseline")


def _result(source: _Source, finding: Finding, accepted: str | None = None) -> dict[str, Json]:
    identity = _fingerprint(source.report, finding)
    result: dict[str, Json] = {
        **_rule_of_result(source, finding.code),
        "level": finding.severity.value,
        "message": _message(_told(finding)),
        "locations": [{**_physical(source), **_logical(finding)}],
        # GitHub matches alerts by this key alone; a model file has no lines, so the finding stands for the line.
        "partialFingerprints": {FINGERPRINT: identity, "primaryLocationLineHash": f"{identity}:1"},
        "properties": {"confidence": finding.confidence.value, "evidence": _shown(plain(finding.evidence))},
    }
    if accepted is not None:
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": accepted}]
    return result


def _shown(value: Json) -> Json:
    """Return evidence with its texts as people may be shown them."""
    if isinstance(value, dict):
        return {clean(key): _shown(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return clean(value) if isinstance(value, str) else value


def _told(finding: Finding) -> str:
    names = [clean(place(location), LONGEST_NAME) for location in finding.locations]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    places = f" Where: {', '.join(names[:NAMED])}{more}." if names else ""
    return f"{clean(finding.message)}{certainty(finding)}.{places} Fix: {clean(finding.remedy)}"


def _message(text: str) -> dict[str, Json]:
    """Return a message in which no name is taken for a link (section 3.11.6) or a placeholder (3.11.5)."""
    return {"text": _MEANT_AS_MARKUP.sub(r"\\\1", text).replace("{", "{{").replace("}", "}}")}


def _rule_of_result(source: _Source, code: str) -> dict[str, Json]:
    return {"ruleId": code, **({"ruleIndex": source.rules[code]} if code in source.rules else {})}


def _physical(source: _Source) -> dict[str, Json]:
    """Return the artifact as a location; code scanning shows no result without a line."""
    artifact: dict[str, Json] = {"uri": uri(source.report.source), "index": source.index}
    return {"physicalLocation": {"artifactLocation": artifact, "region": {"startLine": 1}}}


def _logical(finding: Finding) -> dict[str, Json]:
    distinct = list(dict.fromkeys(finding.locations))[:PLACES]
    return {"logicalLocations": [_logical_location(location) for location in distinct]} if distinct else {}


def _logical_location(location: Location) -> dict[str, Json]:
    if location.tensor is not None:
        name, kind = location.tensor, TENSOR
    elif location.path or not (location.node or location.model):
        name, kind = location.path or "(root)", LAYER
    else:
        name, kind = (location.node, NODE) if location.node else (location.model, MODEL)
    return {
        "name": clean(name, LONGEST_NAME),
        "fullyQualifiedName": clean(place(location), 2 * LONGEST_NAME),
        "kind": kind,
    }


def _fingerprint(report: Report, finding: Finding) -> str:
    """Return one name for a finding: that of its place, or of all its places, in whatever order they were found."""
    places = finding.locations or (Location(),)
    names = sorted({fingerprint(report.source, finding.code, location) for location in places})
    if len(names) == 1:
        return names[0]
    from hashlib import sha256

    return sha256("".join(names).encode("ascii")).hexdigest()[: len(names[0])]


def uri(source: str) -> str:
    """Return a relative reference (RFC 3986): a colon in its first segment would read as a scheme."""
    return quote(os.fsencode(source), safe="/")
