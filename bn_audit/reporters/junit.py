"""JUnit XML, which every CI system shows: one suite for each source, one case for each rule that concerns it.

Source: the fields that Jenkins, GitLab, GitHub test reporters and Azure share; there is no standard.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

from bn_audit.interfaces import Reporter
from bn_audit.reporters._finding_text import paragraphs, terms
from bn_audit.reporters._verdict import verdict
from bn_audit.styled import clean
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.report import Audit, Report

PATTERNS = 40
"""Folded patterns of paths shown for one finding."""

READING = "read"
"""The case that every source has: it could be read, and wholly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test case.

    Attributes:
        name: ``BN101 train-mode``, or the stage that the case is about.
        outcome: ``error``, ``failure``, ``skipped`` or ``""`` for one that passes.
        message: One line about the outcome.
        details: What the outcome says in full.
        output: What is shown beside it: findings that do not fail, and what is accepted.
    """

    name: str
    outcome: str = ""
    message: str = ""
    details: tuple[str, ...] = ()
    output: tuple[str, ...] = ()


def render(audit: Audit, out: TextIO, colour: bool) -> None:  # noqa: ARG001 - colour has no meaning here
    """Write the audit as one XML document in ASCII."""
    from xml.etree import ElementTree as Tree  # every run discovers the reporters, few write this one

    from bn_audit.reporters._portable import portable

    audit = portable(audit)
    names = {rule.code: rule.name for rule in audit.rules}
    suites = [(report, list(_cases(report, audit.fail_on, names))) for report in audit.reports]
    root = Tree.Element("testsuites", {"name": "bn-audit", **_counts([case for _, cases in suites for case in cases])})
    for report, cases in suites:
        source = clean(report.source)
        suite = Tree.SubElement(root, "testsuite", {"name": source, **_counts(cases)})
        properties = Tree.SubElement(suite, "properties")
        for key, value in (("intent", report.intent.value), ("verdict", str(verdict(report, audit.fail_on)))):
            Tree.SubElement(properties, "property", name=key, value=clean(value))
        # Jenkins splits at the last dot into package and class, which would tear a file name apart.
        classname = f"bn-audit.{source.replace('.', '_')}"
        for case in cases:
            written = Tree.SubElement(suite, "testcase", classname=classname, name=case.name, file=source)
            if case.outcome:
                told = Tree.SubElement(written, case.outcome, message=case.message)
                told.text = "\n".join(case.details)
            if case.output:
                Tree.SubElement(written, "system-out").text = "\n".join(case.output)
    Tree.indent(root)
    out.write(Tree.tostring(root, encoding="us-ascii", xml_declaration=True).decode("ascii") + "\n")


def _counts(cases: Sequence[Case]) -> dict[str, str]:
    of = {key: sum(case.outcome == key for case in cases) for key in ("failure", "error", "skipped")}
    return {
        "tests": str(len(cases)),
        "failures": str(of["failure"]),
        "errors": str(of["error"]),
        "skipped": str(of["skipped"]),
    }


def _cases(report: Report, fail_on: Severity, names: dict[str, str]) -> Iterator[Case]:
    """Yield one case for each stage that failed and each rule that looked, could not look, failed or is accepted."""
    yield _reading(report)
    stages = dict.fromkeys(failure.stage for failure in report.failed)
    accepted = [waived.finding for waived in report.waived] + list(report.baselined)
    for finding in (*report.findings, *accepted):
        names.setdefault(finding.code, finding.name)
    codes = {finding.code for finding in (*report.findings, *accepted)}
    codes |= {*report.checked, *(skipped.code for skipped in report.skipped), *(stages.keys() & names.keys())}
    for stage in stages:
        if stage != READING and stage not in codes:
            yield _error_case(report, stage, stage)
    for code in sorted(codes):
        yield _rule_case(report, code, fail_on, f"{code} {clean(names.get(code, ''))}".rstrip())


def _reading(report: Report) -> Case:
    output = tuple(f"not read: {clean(part)}" for part in report.unread)
    if any(failure.stage == READING for failure in report.failed):
        return _error_case(report, READING, READING, output)
    if report.unread:
        parts = f"{len(report.unread)} part{'s' if len(report.unread) > 1 else ''} not read"
        return Case(name=READING, outcome="skipped", message=parts, output=output)
    return Case(name=READING)


def _error_case(report: Report, stage: str, name: str, output: tuple[str, ...] = ()) -> Case:
    failures = [failure for failure in report.failed if failure.stage == stage]
    rows = [row for failure in failures for row in (failure.error, *(failure.traceback or "").splitlines())]
    message, details = clean(failures[0].error), tuple(map(clean, rows))
    return Case(name=name, outcome="error", message=message, details=details, output=output)


def _rule_case(report: Report, code: str, fail_on: Severity, name: str) -> Case:
    found = [finding for finding in report.findings if finding.code == code]
    failing = [finding for finding in found if finding.severity.rank >= fail_on.rank]
    output = [row for finding in found if finding not in failing for row in _rows(finding)]
    output += _accepted(report, code)
    reasons = [clean(skipped.reason) for skipped in report.skipped if skipped.code == code]
    if any(failure.stage == code for failure in report.failed):
        return _error_case(report, code, name, (*_all(failing), *output))
    if failing:
        output += [f"not checked: {reason}" for reason in reasons]
        message = "; ".join(clean(finding.message) for finding in failing)
        return Case(name=name, outcome="failure", message=message, details=_all(failing), output=tuple(output))
    if reasons:
        message = f"not checked: {'; '.join(reasons)}"
        return Case(name=name, outcome="skipped", message=message, output=tuple(output))
    return Case(name=name, output=tuple(output))


def _all(findings: Sequence[Finding]) -> tuple[str, ...]:
    return tuple(row for finding in findings for row in _rows(finding))


def _rows(finding: Finding) -> list[str]:
    first, *rest = paragraphs(finding, PATTERNS)
    return [f"{finding.severity.value}: {first}", *rest]


def _accepted(report: Report, code: str) -> Iterator[str]:
    for waived in report.waived:
        if waived.finding.code == code:
            yield f"waived{terms(waived)}: {clean(waived.reason)}"
            yield from _rows(waived.finding)
    for finding in report.baselined:
        if finding.code == code:
            yield "known, in the baseline:"
            yield from _rows(finding)


REPORTER = Reporter(name="junit", summary="JUnit XML, a case for each rule", suffixes=(".xml",), render=render)
