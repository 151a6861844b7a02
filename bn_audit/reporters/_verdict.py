"""What the audit of one source comes to, in one line that never says clean about what was not checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bn_audit.subject.finding import Severity
from bn_audit.subject.norm import Mode
from bn_audit.subject.report import Report
from bn_audit.subject.subject import Form

FAIL = "FAIL"
NOT_AUDITED = "NOT AUDITED"
INCOMPLETE = "INCOMPLETE"
PASS = "pass"
CLEAN = "clean"
NOTHING_TO_JUDGE = "nothing to judge"
WORDS = (FAIL, NOT_AUDITED, INCOMPLETE, PASS, CLEAN, NOTHING_TO_JUDGE)
"""Every verdict, the worst first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One line.

    Attributes:
        word: One of `WORDS`.
        style: How to show the word, in the style language of rich.
        details: What the word rests on, and what it leaves open.
    """

    word: str
    style: str
    details: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.word} ({'; '.join(self.details)})"


def verdict(report: Report, fail_on: Severity) -> Verdict:
    """Return the verdict on one source."""
    counts = tuple(filter(None, (count_findings(report),)))
    gaps = tuple(_gaps(report))
    if any(failure.stage == "read" for failure in report.failed):
        return Verdict(word=NOT_AUDITED, style="bold red", details=(*counts, "it could not be read"))
    failed = tuple(f"{failure.stage} failed" for failure in report.failed)
    if report.at_least(fail_on):
        return Verdict(word=FAIL, style="bold red", details=(*counts, *failed, *gaps))
    if failed:
        return Verdict(word=INCOMPLETE, style="bold red", details=(*counts, *failed, *gaps))
    if counts or gaps:
        return Verdict(word=PASS, style="bold yellow", details=(*(counts or ("no findings",)), *gaps))
    if not report.norms and not report.batch_flow:
        return Verdict(word=NOTHING_TO_JUDGE, style="bold", details=(_nothing_found(report),))
    return Verdict(word=CLEAN, style="bold green", details=("no findings",))


def _nothing_found(report: Report) -> str:
    """Return what was looked for; other norms, such as LayerNorm, are none of it."""
    if any(model.form is Form.STATE_DICT for model in report.models):
        return "no running statistics in it: no batch norms, or theirs are missing"
    return "no batch or instance norms in it"


def count_findings(report: Report) -> str:
    """Return ``2 errors, 1 note``; empty without findings."""
    parts = []
    for severity in Severity:
        number = sum(finding.severity is severity for finding in report.findings)
        if number:
            parts.append(plural(number, severity.value))
    return ", ".join(parts)


def plural(number: int, noun: str) -> str:
    """Return ``1 rule`` or ``2 rules``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _gaps(report: Report) -> Iterator[str]:
    """Yield what keeps the audit from saying clean."""
    batch_norms = [norm for norm in report.norms if norm.kind.is_batch_norm]
    unknown = sum(norm.mode is Mode.UNKNOWN for norm in batch_norms)
    called = sum(norm.mode is Mode.CALLER for norm in batch_norms)
    if unknown:
        yield f"train/eval mode not recorded for {unknown} of {plural(len(batch_norms), 'batch norm')}"
    if called:
        yield f"train/eval mode decided by the caller for {called} of {plural(len(batch_norms), 'batch norm')}"
    undecided = sum(flow.verdict == "undecided" for flow in report.batch_flow or ())
    if undecided:
        yield f"batch flow undecided for {undecided} of {plural(len(report.batch_flow or ()), 'output')}"
    if report.skipped:
        yield f"{plural(len({skipped.code for skipped in report.skipped}), 'rule')} not checked"
    if report.unread:
        yield f"{plural(len(report.unread), 'part')} not read"
    if report.deselected:
        yield f"{plural(len(report.deselected), 'rule')} not selected"
    if report.unread and not report.norms:
        yield "no batch or instance norms in what was read"
