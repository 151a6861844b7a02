"""What the audit of one source comes to, in one line that never says clean about what was not checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bn_audit.reporters._words import plural
from bn_audit.subject.finding import Severity
from bn_audit.subject.norm import Mode
from bn_audit.subject.report import Audit, Report
from bn_audit.subject.subject import Form

if TYPE_CHECKING:
    from bn_audit.subject.comparison import Comparison

FAIL = "FAIL"
NOT_AUDITED = "NOT AUDITED"
INCOMPLETE = "INCOMPLETE"
PASS = "pass"
CLEAN = "clean"
MATCH = "match"
NOTHING_TO_JUDGE = "nothing to judge"
RUN = "run"
WORDS = (FAIL, NOT_AUDITED, INCOMPLETE, PASS, CLEAN, MATCH, NOTHING_TO_JUDGE)
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
    if report.comparison_only and report.comparison is None:
        return Verdict(word=NOT_AUDITED, style="bold red", details=(*counts, "the two could not be compared"))
    failed = tuple(f"{failure.stage} failed" for failure in report.failed)
    if report.at_least(fail_on):
        return Verdict(word=FAIL, style="bold red", details=(*counts, *failed, *gaps))
    if failed or _is_not_run(report):
        return Verdict(word=INCOMPLETE, style="bold red", details=(*counts, *failed, *gaps))
    if counts or gaps:
        return Verdict(word=PASS, style="bold yellow", details=(*(counts or ("no findings",)), *gaps))
    if report.comparison is not None and report.comparison_only:
        return Verdict(word=MATCH, style="bold green", details=(compared(report.comparison),))
    ran = _ran(report)
    if not report.norms and not report.batch_flow and report.comparison is None and not ran:
        return Verdict(word=NOTHING_TO_JUDGE, style="bold", details=(_nothing_found(report),))
    return Verdict(word=CLEAN, style="bold green", details=("no findings", *ran))


def _is_not_run(report: Report) -> bool:
    if report.observation is None:
        return False
    from bn_audit.reporters._observation_verdict import is_run  # few runs run the model

    return not is_run(report.observation)


def _ran(report: Report) -> tuple[str, ...]:
    """Return with what the model was run; what it was not run with is not known to be clean."""
    if report.observation is None:
        return ()
    from bn_audit.reporters._observation_verdict import ran_text  # few runs run the model

    return (ran_text(report.observation),)


def tally(audit: Audit) -> str:
    """Return ``2 sources: 1 FAIL, 1 clean; exit code 1``."""
    words = Counter(verdict(report, audit.fail_on).word for report in audit.reports)
    counts = ", ".join(f"{words[word]} {word}" for word in WORDS if words[word])
    return f"{plural(len(audit.reports), 'source')}: {counts}; exit code {audit.exit_code}"


def strictly(audit: Audit) -> str:
    """Return why a run without failures or failing findings has such an exit code; ``""`` where that needs no word."""
    if audit.exit_code == 3 and not any(report.failed for report in audit.reports):
        if any(skipped.code == RUN for report in audit.reports for skipped in report.skipped):
            return "a run that was asked for did not take place"
        return "--strict fails what was not checked, not compared, not read or not recorded"
    if audit.exit_code == 1 and not any(report.at_least(audit.fail_on) for report in audit.reports):
        return "--strict fails a waiver that waives nothing"
    return ""


def purpose(audit: Audit) -> str:
    """Return ``judged for deploy, settings: pyproject.toml``."""
    intents = dict.fromkeys(report.intent.value for report in audit.reports)
    settings = "" if audit.settings is None else f", settings: {audit.settings}"
    return f"judged for {', '.join(intents)}{settings}"


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


NO_VALUES = "values compared: none"


def compared(comparison: Comparison) -> str:
    """Return what was compared, value by value."""
    from bn_audit.reporters._comparison import inferred_eps

    layers = sum(drift.mean is not None or drift.variance is not None for drift in comparison.drift)
    folds = sum(pair.fold is not None and pair.fold.holds is not None for pair in comparison.pairs)
    tensors = len(comparison.values.compared)
    parts = [plural(layers, "norm layer")] if layers else []
    parts += [plural(folds, "fold")] if folds else []
    parts += [plural(tensors, "further tensor" if parts else "tensor")] if tensors else []
    inferred = inferred_eps(pair.fold for pair in comparison.pairs if pair.fold is not None)
    return f"values compared: {', '.join(parts) or 'none'}{f'; eps {inferred} inferred' if inferred else ''}"


def _gaps(report: Report) -> Iterator[str]:
    """Yield what keeps the audit from saying clean."""
    if report.waived:
        yield f"{plural(len(report.waived), 'finding')} waived"
    if report.baselined:
        yield f"{plural(len(report.baselined), 'finding')} known, in the baseline"
    if not report.comparison_only:
        yield from _unknown_modes(report)
    undecided = sum(flow.verdict == "undecided" for flow in report.batch_flow or ())
    if undecided:
        yield f"batch flow undecided for {undecided} of {plural(len(report.batch_flow or ()), 'output')}"
    if report.comparison is not None:
        yield from _uncompared(report.comparison, is_silent=not report.findings)
    if report.observation is not None:
        from bn_audit.reporters._observation_verdict import gaps  # few runs run the model

        is_failed = any(failure.stage == RUN for failure in report.failed)
        yield from gaps(report.observation, is_silent=not report.findings, is_failed=is_failed)
        if len(report.models) > 1 and not is_failed:
            yield f"{len(report.models) - 1} of {len(report.models)} models not run"
    skipped = {skipped.code for skipped in report.skipped}
    if RUN in skipped:
        yield "not run"
    if skipped - {RUN}:
        yield f"{plural(len(skipped - {RUN}), 'rule')} not checked"
    if report.unread:
        yield f"{plural(len(report.unread), 'part')} not read"
    if report.deselected:
        yield f"{plural(len(report.deselected), 'rule')} not selected"
    if report.unread and not report.norms:
        yield "no batch or instance norms in what was read"


def _unknown_modes(report: Report) -> Iterator[str]:
    batch_norms = [norm for norm in report.norms if norm.kind.is_batch_norm]
    unknown = sum(norm.mode is Mode.UNKNOWN for norm in batch_norms)
    called = sum(norm.mode is Mode.CALLER for norm in batch_norms)
    if unknown:
        yield f"train/eval mode not recorded for {unknown} of {plural(len(batch_norms), 'batch norm')}"
    if called:
        yield f"train/eval mode decided by the caller for {called} of {plural(len(batch_norms), 'batch norm')}"


def _uncompared(comparison: Comparison, *, is_silent: bool) -> Iterator[str]:
    """Yield what keeps a comparison from saying that two artifacts match; where findings say it, only what was not
    compared."""
    from bn_audit.reporters._comparison import unlike  # few runs compare

    if compared(comparison) == NO_VALUES:
        yield "no values compared"
    if is_silent:
        yield from unlike(comparison)
    if comparison.values.not_compared:
        yield f"{plural(len(comparison.values.not_compared), 'part')} not compared"
