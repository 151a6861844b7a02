"""GitHub workflow commands: one annotation for each finding, the worst first.

GitHub shows ten errors, ten warnings and ten notices of a step, and the rest in the log alone.

Source: docs.github.com, workflow commands; actions/toolkit packages/core/src/command.ts for the escapes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from bn_audit.interfaces import Reporter
from bn_audit.reporters._finding_text import paragraphs, stale, terms, unchecked
from bn_audit.reporters._verdict import strictly, tally, verdict
from bn_audit.reporters._words import plural
from bn_audit.styled import clean, line, write
from bn_audit.subject.finding import Severity
from bn_audit.subject.report import Audit, Report

COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}
PATTERNS = 12
"""Folded patterns of paths shown for one finding."""

LONGEST_LINE = 8000
"""Characters of one annotation; GitHub cuts beyond some thousand."""

Annotation = tuple[Severity, str, str, str]
"""Severity, source, title, message."""


def render(audit: Audit, out: TextIO, colour: bool) -> None:  # noqa: ARG001 - GitHub colours by command
    """Write the annotations, then one line for each source and one for the run."""
    from bn_audit.reporters._portable import portable  # every run discovers the reporters, few write this one

    audit = portable(audit, _root())
    annotations = [item for report in audit.reports for item in _annotations(report)]
    for severity, source, title, message in sorted(annotations, key=lambda item: -item[0].rank):
        properties = f"file={_property(source)},title={_property(title)}"
        out.write(f"::{COMMANDS[severity]} {properties}::{_data(message)}\n")
    for row in stale(audit):
        out.write(f"::notice title=bn-audit::{_data(row)}\n")
    told = [line(f"{clean(report.source)}: {verdict(report, audit.fail_on)}") for report in audit.reports]
    told += [line(f"bn-audit: {reason}") for reason in (strictly(audit),) if reason]
    write([*told, line(f"bn-audit: {tally(audit)}")], out, colour=False, width=LONGEST_LINE)


def _root() -> str | None:
    """Return the folder that GitHub resolves file names in; None where this is no checkout of a workflow."""
    workspace = os.environ.get("GITHUB_WORKSPACE")
    return workspace if workspace and Path.cwd().is_relative_to(workspace) else None


def _annotations(report: Report) -> Iterator[Annotation]:
    for failure in report.failed:
        yield Severity.ERROR, report.source, f"bn-audit: {failure.stage} failed", clean(failure.error)
    for finding in report.findings:
        title = f"{finding.code} {finding.name}"
        yield finding.severity, report.source, title, "\n".join(paragraphs(finding, PATTERNS))
    for waived in report.waived:
        told = f"waived{terms(waived)}: {clean(waived.reason)}\n{clean(waived.finding.message)}"
        yield Severity.NOTE, report.source, f"{waived.finding.code} {waived.finding.name} (waived)", told
    gaps = [f"{', '.join(codes)}: {reason}" for codes, reason in unchecked(report)]
    gaps += [f"not read: {clean(part)}" for part in report.unread]
    if gaps:
        count = plural(len({item.code for item in report.skipped}), "rule")
        yield Severity.NOTE, report.source, f"bn-audit: {count} not checked", "\n".join(gaps)


def _data(text: str) -> str:
    """Return `text` as the message of a command: cut to a length, and no new line ends it early."""
    cut = text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]}..."
    return cut.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(clean(text)).replace(":", "%3A").replace(",", "%2C")


REPORTER = Reporter(name="github", summary="annotations of a GitHub workflow", suffixes=(), render=render)
