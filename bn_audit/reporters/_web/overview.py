"""The table of sources at the top of a page of several, and the rules that fired at its end."""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.reporters._rule_text import EXAMPLE, LIMITS, REMEDY, WHAT, WHY, sections
from bn_audit.reporters._verdict import CLEAN, FAIL, INCOMPLETE, MATCH, NOT_AUDITED, WORDS, verdict
from bn_audit.reporters._web.markup import NOTHING, Markup, badge, code, element, facts, folded, joined, table, text
from bn_audit.subject.report import Audit
from bn_audit.subject.rule_description import RuleDescription

VERDICT_KINDS = {FAIL: "error", NOT_AUDITED: "error", INCOMPLETE: "error", CLEAN: "good", MATCH: "good"}
EXPLAINED = (WHAT, WHY, REMEDY, LIMITS)


def verdict_badge(word: str) -> Markup:
    """Return the word of a verdict in its colour."""
    return badge(word, VERDICT_KINDS.get(word, "warning"))


def anchor(number: int) -> str:
    """Return the name of the section of the source with this number, from 1 on."""
    return f"source-{number}"


def rule_anchor(rule_code: str) -> str:
    """Return the name of the paragraph about a rule."""
    return f"rule-{rule_code}"


def overview(audit: Audit) -> Markup:
    """Return a table of the sources, the worst first; nothing for a single one."""
    if len(audit.reports) < 2:
        return NOTHING
    judged = [(verdict(report, audit.fail_on), report, number) for number, report in enumerate(audit.reports, start=1)]
    judged.sort(key=lambda item: WORDS.index(item[0].word))
    rows = [
        (
            element("a", code(report.source), href=f"#{anchor(number)}"),
            verdict_badge(result.word),
            text("; ".join(result.details)),
        )
        for result, report, number in judged
    ]
    return table([text("source"), text("verdict"), text("because")], rows, kind="overview")


def rules(audit: Audit) -> Markup:
    """Return what the rules that fired are about, for a reader who has the page and not the program."""
    reports = audit.reports
    fired = {finding.code for report in reports for finding in (*report.findings, *report.baselined)}
    fired |= {item.finding.code for report in reports for item in report.waived}
    told = [_rule(rule) for rule in audit.rules if rule.code in fired]
    return element("section", element("h2", text("Rules that fired")), *told) if told else NOTHING


def _rule(rule: RuleDescription) -> Markup:
    parts = dict(sections(rule.documentation))
    example = parts.get(EXAMPLE, "")
    shown = folded(text("example"), element("pre", joined(map(text, example.splitlines())))) if example else NOTHING
    heading = element("h3", text(f"{rule.code} {rule.name}"), id=rule_anchor(rule.code))
    return joined((heading, facts(_told(parts)), shown))


def _told(parts: dict[str, str]) -> Iterator[tuple[str, Markup]]:
    if parts.get(""):
        yield "Rule", text(parts[""])
    for label in EXPLAINED:
        if label in parts:
            yield label, text(parts[label])
