"""The findings of a source, and those that are accepted."""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.reporters._finding_text import certainty, terms, where
from bn_audit.reporters._web.markup import NOTHING, Markup, badge, code, element, folded, joined, text
from bn_audit.reporters._web.overview import rule_anchor
from bn_audit.reporters._words import plural
from bn_audit.subject.finding import Finding
from bn_audit.subject.report import Report

PATTERNS = 40
"""Folded patterns of paths shown for one finding."""

LONGEST_PLACES = 8000
"""Characters of them all."""


def findings(report: Report, described: frozenset[str]) -> Iterator[Markup]:
    """Yield the findings, the worst first; codes that are `described` lead to the paragraph about their rule."""
    if report.findings:
        yield element("h3", text("Findings"))
    for finding in sorted(report.findings, key=lambda finding: -finding.severity.rank):
        yield _finding(finding, described)


def _finding(finding: Finding, described: frozenset[str], reason: Markup = NOTHING) -> Markup:
    """Return a finding; one that is accepted shows why, and stays out of the colours of the gate."""
    kind = finding.severity.value
    head = joined(
        (
            badge(kind, "" if reason else kind),
            text(" "),
            element("strong", _rule(finding, described)),
            text(f"{certainty(finding)}: {finding.message}"),
        ),
        "",
    )
    places = where(finding, PATTERNS)
    shown = element("p", element("span", text("where "), kind="quiet"), code(places, LONGEST_PLACES))
    fix = element("p", element("span", text("fix "), kind="quiet"), text(finding.remedy))
    rows = (element("p", head), reason, shown if places else NOTHING, fix)
    return element("article", *rows, kind="" if reason else kind)


def accepted(report: Report, described: frozenset[str]) -> Iterator[Markup]:
    """Yield what a waiver or a baseline takes out of the gate; shown, never silent."""
    if report.waived:
        yield element("h3", text("Waived"))
    for item in report.waived:
        label = element("span", text(f"waived{terms(item)} "), kind="quiet")
        yield _finding(item.finding, described, element("p", label, text(item.reason)))
    if report.baselined:
        known = element("p", element("span", text("known, in the baseline"), kind="quiet"))
        summary = text(f"{plural(len(report.baselined), 'finding')} known, in the baseline")
        yield folded(summary, *(_finding(finding, described, known) for finding in report.baselined))


def _rule(finding: Finding, described: frozenset[str]) -> Markup:
    name = text(f"{finding.code} {finding.name}")
    return element("a", name, href=f"#{rule_anchor(finding.code)}") if finding.code in described else name
