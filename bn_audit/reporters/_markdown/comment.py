"""The comment: the verdict, a table of the findings, and the rest behind lines that open it."""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.reporters._finding_text import certainty, stale, terms, unchecked, where
from bn_audit.reporters._markdown.markup import (
    Html,
    Markdown,
    bold,
    code,
    code_html,
    folded,
    items,
    joined,
    plain_html,
    table,
    text,
)
from bn_audit.reporters._portable import portable
from bn_audit.reporters._verdict import CLEAN, MATCH, NOTHING_TO_JUDGE, purpose, strictly, tally, verdict
from bn_audit.reporters._words import plural
from bn_audit.subject.finding import Finding
from bn_audit.subject.report import Audit, Report
from bn_audit.version import VERSION

LONGEST = 60_000
"""Characters: GitHub refuses a comment beyond 65 536, GitLab one beyond a million."""

ROWS = 50
"""Findings in the table, sources and files in lists."""

PATTERNS = 6
"""Folded patterns of paths in a cell of the table."""

MORE_PATTERNS = 40
"""The same in the details."""

QUIET = (CLEAN, MATCH, NOTHING_TO_JUDGE)
STALE = "waivers and entries of the baseline that are no longer needed"
COLUMNS = ("severity", "rule", "source", "finding")
Found = list[tuple[Report, Finding]]


def comment(audit: Audit) -> str:
    """Return the comment."""
    audit = portable(audit)
    length, left_out = 0, 0
    parts: list[str] = []
    for part in _parts(audit):
        if length + len(part) > LONGEST:
            left_out += 1
            continue
        length += len(part) + 1
        parts.append(part)
    if left_out:
        parts.append(
            f"{plural(left_out, 'further part')} of this report left out: the JSON and HTML reports have all.\n"
        )
    parts.append(f"<sub>bn-audit {text(VERSION)}, {text(purpose(audit))}</sub>\n")
    return "\n".join(parts)


def _parts(audit: Audit) -> Iterator[str]:
    found = [(report, finding) for report in audit.reports for finding in report.findings]
    found.sort(key=lambda pair: -pair[1].severity.rank)
    yield f"### bn-audit: {text(tally(audit))}\n"
    yield _verdicts(audit)
    reason = strictly(audit)
    if reason:
        yield f"{text(reason)}\n"
    if found:
        yield table(COLUMNS, (_row(report, finding) for report, finding in found[:ROWS]))
    if len(found) > ROWS:
        yield f"and {len(found) - ROWS} more findings.\n"
    yield from _failures(audit)
    by_rule: dict[str, Found] = {}
    for report, finding in found:
        by_rule.setdefault(f"{finding.code} {finding.name}", []).append((report, finding))
    for rule, members in by_rule.items():
        yield folded(plain_html(f"{rule}: where, and what to do"), _details(members))
    yield from _runs(audit)
    yield from _comparisons(audit)
    yield from _accepted(audit)
    yield from _gaps(audit)


def _verdicts(audit: Audit) -> str:
    """Return one line for each source that has something to say, and one for all others."""
    rows: list[Markdown] = []
    quiet = 0
    for report in audit.reports:
        result = verdict(report, audit.fail_on)
        if result.word in QUIET and len(audit.reports) > 1:
            quiet += 1
        elif len(rows) < ROWS:
            rows.append(joined(code(report.source), bold(result.word), text(f"({'; '.join(result.details)})")))
    hidden = len(audit.reports) - quiet - len(rows)
    rows += [text(f"{plural(hidden, 'more source')} with findings or gaps")] if hidden else []
    rows += [text(f"{plural(quiet, 'source')} clean, matching or with nothing to judge")] if quiet else []
    return items(rows)


def _row(report: Report, finding: Finding) -> tuple[Markdown, ...]:
    places = where(finding, PATTERNS)
    told = text(finding.message + certainty(finding))
    told = joined(told, code(places, 1000), separator="<br>") if places else told
    return bold(finding.severity.value), text(f"{finding.code} {finding.name}"), code(report.source), told


def _details(members: Found) -> str:
    rows = []
    for report, finding in members[:ROWS]:
        places = where(finding, MORE_PATTERNS)
        told = text(finding.message + certainty(finding))
        rows.append(joined(code(report.source), told, code(places, 4000) if places else Markdown("")))
    hidden = len(members) - len(rows)
    rows += [text(f"and {hidden} more")] if hidden else []
    remedies = dict.fromkeys(finding.remedy for _, finding in members)
    return items([*rows, *(joined(bold("fix:"), text(remedy)) for remedy in remedies)])


def _failures(audit: Audit) -> Iterator[str]:
    failures = [(report, failure) for report in audit.reports for failure in report.failed]
    if failures:
        yield "**Not audited:**\n"
        rows = [joined(code(report.source), text(f"{failed.stage}: {failed.error}")) for report, failed in failures]
        hidden = len(rows) - ROWS
        yield items([*rows[:ROWS], *([text(f"and {hidden} more")] if hidden > 0 else [])])


def _runs(audit: Audit) -> Iterator[str]:
    """Yield what the models did that were run."""
    for report in audit.reports:
        if report.observation is not None:
            from bn_audit.reporters._markdown.observation import observation_parts  # few runs run the model

            yield from observation_parts(report)


def _comparisons(audit: Audit) -> Iterator[str]:
    """Yield how each comparison was aligned and what moved."""
    for report in audit.reports:
        if report.comparison is None:
            continue
        from bn_audit.reporters._comparison import alignment, drift_summary, not_compared  # few runs compare

        told = [*alignment(report.comparison), ("moved", drift_summary(report.comparison))]
        told += [("not compared", f"{what}: {reason}") for what, reason in not_compared(report)]
        rows = (joined(bold(f"{label}:"), text(sentence)) for label, sentence in told if sentence)
        sides = f"{code_html(report.source)} compared with {code_html(report.comparison.reference)}"
        yield folded(Html(sides), items(rows))


def _accepted(audit: Audit) -> Iterator[str]:
    """Yield what a waiver or a baseline takes out of the gate; shown, never silent."""
    waived = [
        joined(_short(report, item.finding), text(f"Waived{terms(item)}: {item.reason}"))
        for report in audit.reports
        for item in report.waived
    ]
    if waived:
        yield folded(plain_html(f"{plural(len(waived), 'finding')} waived"), items(waived))
    known = [_short(report, finding) for report in audit.reports for finding in report.baselined]
    if known:
        yield folded(plain_html(f"{plural(len(known), 'finding')} known, in the baseline"), items(known))
    gone = stale(audit)
    if gone:
        yield folded(plain_html(STALE), items(map(text, gone)))


def _short(report: Report, finding: Finding) -> Markdown:
    places = where(finding, PATTERNS)
    told = text(f"{finding.code} {finding.name}: {finding.message}")
    return joined(code(report.source), told, code(places, 1000) if places else Markdown(""))


def _gaps(audit: Audit) -> Iterator[str]:
    """Yield what was not checked and not read."""
    for report in audit.reports:
        rows = [text(f"{', '.join(codes)}: {reason}") for codes, reason in unchecked(report)]
        rows += [text(f"not read: {part}") for part in report.unread]
        if rows:
            yield folded(Html(f"not checked in {code_html(report.source)}"), items(rows))
    if audit.listed:
        listed = [joined(code(source), text(reason)) for source, reason in audit.listed[:ROWS]]
        hidden = len(audit.listed) - len(listed)
        listed += [text(f"and {hidden} more")] if hidden else []
        yield folded(plain_html(f"{plural(len(audit.listed), 'file')} not audited on their own"), items(listed))
