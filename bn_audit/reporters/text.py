"""The report for people: what was audited, what is wrong, what to do, and what was not checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TextIO

from bn_audit.interfaces import Reporter
from bn_audit.reporters._finding_text import unchecked
from bn_audit.reporters._fold import fold_line
from bn_audit.reporters._verdict import CLEAN, MATCH, NOTHING_TO_JUDGE, strictly, tally, verdict
from bn_audit.reporters._words import MODE_WORDS, plural, size_text
from bn_audit.styled import Line, clean, line, write
from bn_audit.subject.finding import Confidence, Finding, Location, Severity
from bn_audit.subject.norm import Mode, NormLayer
from bn_audit.subject.report import Audit, Failed, Report
from bn_audit.subject.subject import Model

SEVERITY_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.NOTE: "bold blue"}
FLOW_WORDS = {
    "mixes": "mixes samples",
    "position": "depends on the position in the batch",
    "size": "depends on the batch size",
    "undecided": "undecided",
}
MANY = 6
"""Models, unread parts and listed files shown by name; the JSON report has all."""

LONGEST_NAME = 200
"""Characters shown of one name out of a file."""


def render(audit: Audit, out: TextIO, colour: bool) -> None:
    """Write the audit to `out`, wrapped to its width."""
    write(_lines(audit), out, colour)


def _lines(audit: Audit) -> Iterator[Line]:
    several = len(audit.reports) > 1
    was_short = True
    for number, report in enumerate(audit.reports):
        short = _short_line(report, audit.fail_on) if several else None
        if number and not (was_short and short):
            yield line()
        if short is not None:
            yield short
        else:
            yield from _report_lines(report, audit.fail_on)
        was_short = short is not None
    if audit.listed:
        yield line()
        yield from _listed_lines(audit.listed)
    closing = list(_closing_lines(audit))
    if closing:
        yield line()
        yield from closing


def _closing_lines(audit: Audit) -> Iterator[Line]:
    yield from _outdated_lines(audit)
    codes = sorted({finding.code for report in audit.reports for finding in report.findings})
    if codes:
        more = f" (also {', '.join(codes[1:])})" if len(codes) > 1 else ""
        yield line(f"bn-audit explain {codes[0]}", (f"  tells why the rule exists and what to do{more}", "dim"))
    if len(audit.reports) > 1:
        yield _summary_line(audit)
    reason = strictly(audit)
    if reason:
        yield line(f"exit code {audit.exit_code}: {reason}")


def _short_line(report: Report, fail_on: Severity) -> Line | None:
    """Return the one line that a report with nothing to say is worth among others."""
    result = verdict(report, fail_on)
    if result.word not in (CLEAN, MATCH, NOTHING_TO_JUDGE):
        return None
    counts = f", {_norm_counts(report.norms)}" if report.norms else ""
    ran = f" ({'; '.join(result.details)})" if report.observation is not None else ""
    return line(*_header(report).spans, f"{counts}: ", (result.word, result.style), ran)


def _report_lines(report: Report, fail_on: Severity) -> Iterator[Line]:
    yield _header(report)
    yield from _comparison_lines(report, "reference")
    yield from _model_lines(report.models)
    if report.format is not None:
        yield line(("norm layers: ", "dim"), _norm_counts(report.norms), indent=2)
    yield from _flow_lines(report)
    yield from _observation_lines(report)
    yield from _comparison_lines(report, "alignment")
    named = len(report.models) > 1
    for finding in sorted(report.findings, key=lambda finding: -finding.severity.rank):
        yield line()
        yield from _finding_lines(finding, named)
    if report.findings:
        yield line()
    yield from _comparison_lines(report, "drift")
    yield from _accepted_lines(report)
    for codes, reason in unchecked(report):
        yield line(("not checked: ", "yellow"), f"{', '.join(codes)} ({reason})", indent=2)
    for reason in report.unread[:MANY]:
        yield line(("not read: ", "yellow"), clean(reason), indent=2)
    if len(report.unread) > MANY:
        yield line(("not read: ", "yellow"), f"{len(report.unread) - MANY} more parts", indent=2)
    for failure in report.failed:
        yield from _failure_lines(failure)
    result = verdict(report, fail_on)
    yield line(("verdict: ", "dim"), (result.word, result.style), str(result)[len(result.word) :], indent=2)


def _comparison_lines(report: Report, part: str) -> Iterator[Line]:
    if report.comparison is not None or report.frozen:
        from bn_audit.reporters._comparison_text import PARTS  # few runs compare

        yield from PARTS[part](report)


def _accepted_lines(report: Report) -> Iterator[Line]:
    if report.waived or report.baselined:
        from bn_audit.reporters._accepted_text import accepted_lines  # few runs accept anything

        yield from accepted_lines(report, lambda location: clean(_place(location), LONGEST_NAME))


def _outdated_lines(audit: Audit) -> Iterator[Line]:
    if audit.unused_waivers or audit.resolved:
        from bn_audit.reporters._accepted_text import outdated_lines

        yield from outdated_lines(audit)


def _observation_lines(report: Report) -> Iterator[Line]:
    if report.observation is not None:
        from bn_audit.reporters._observation_text import observation_lines  # few runs run the model

        yield from observation_lines(report)


def _flow_lines(report: Report) -> Iterator[Line]:
    """Say what the batch-flow proof showed: one line for all independent outputs, one for each other one."""
    flows = report.batch_flow or ()
    independent = [flow for flow in flows if flow.verdict == "independent"]
    if independent:
        names = "all " if len(independent) == len(flows) > 1 else ""
        seconds = f", {report.flow_seconds:.1f} s" if report.flow_seconds is not None else ""
        text = f"{names}{plural(len(independent), 'output')} independent of companions, position and batch size"
        yield line(
            ("batch flow: ", "dim"), text, (f" (for finite inputs, shown at B = 3 and 5{seconds})", "dim"), indent=2
        )
    others = [flow for flow in flows if flow.verdict != "independent"]
    for flow in others[:MANY]:
        where = clean(flow.path or flow.node or "", LONGEST_NAME)
        at = f" at {where}" if where else ""
        text = f"output {clean(flow.output, LONGEST_NAME)} {FLOW_WORDS[flow.verdict]}{at}: {clean(flow.why)}"
        yield line(("batch flow: ", "dim"), text, indent=2)
    if len(others) > MANY:
        yield line(("batch flow: ", "dim"), f"{len(others) - MANY} more outputs", indent=2)


def _header(report: Report) -> Line:
    parts = [report.format or "not read"]
    if report.size_bytes:
        parts.append(size_text(report.size_bytes))
    return line((clean(report.source), "bold"), f"  {', '.join(parts)}")


def _model_lines(models: Sequence[Model]) -> Iterator[Line]:
    for model in models[:MANY]:
        label = f"model '{clean(model.route, LONGEST_NAME)}': " if model.route else "model: "
        facts = [model.form.value]
        if model.mode is not Mode.UNKNOWN:
            facts.append(
                f"root in {model.mode.value} mode" if model.mode is not Mode.CALLER else MODE_WORDS[model.mode]
            )
        if model.averaged:
            facts.append("an average of another model")
        name = clean(model.type_name, LONGEST_NAME) + " " if model.type_name else ""
        yield line((label, "dim"), f"{name}({', '.join(facts)})" if name else ", ".join(facts), indent=2)
    if len(models) > MANY:
        yield line((f"and {len(models) - MANY} more models", "dim"), indent=2)


def _norm_counts(norms: Sequence[NormLayer]) -> str:
    """Return ``53 batch_norm (52 eval, 1 train), 2 instance_norm (eval)``."""
    kinds = Counter(norm.kind for norm in norms)
    parts = []
    for kind, number in kinds.items():
        modes = Counter(norm.mode for norm in norms if norm.kind is kind)
        if len(modes) == 1:
            words = MODE_WORDS[next(iter(modes))]
        else:
            words = ", ".join(f"{count} {MODE_WORDS[mode]}" for mode, count in modes.items())
        parts.append(f"{number} {kind.value} ({words})")
    return ", ".join(parts) or "no batch or instance norms"


def _finding_lines(finding: Finding, named: bool) -> Iterator[Line]:
    unsure = "" if finding.confidence is Confidence.HIGH else f" ({finding.confidence.value} confidence)"
    yield line(
        (finding.severity.value, SEVERITY_STYLES[finding.severity]),
        (f" {finding.code} {finding.name}", "bold"),
        f"{unsure}: {clean(finding.message)}",
        indent=2,
    )
    by_model: dict[str, list[str]] = {}
    for location in finding.locations:
        by_model.setdefault(location.model, []).append(clean(_place(location), LONGEST_NAME))
    for model, places in by_model.items():
        owner = f" of '{clean(model, LONGEST_NAME)}'" if named else ""
        yield line((f"where{owner}: ", "dim"), fold_line(places), indent=4)
    yield line(("fix: ", "dim"), clean(finding.remedy), indent=4)


def _place(location: Location) -> str:
    """Return where a finding points: the tensor where it is one, else the layer or node."""
    path = location.path or location.node or "(root)"
    if location.tensor is None:
        return path
    return location.tensor if location.tensor.startswith(location.path) else f"{path} {location.tensor}"


def _failure_lines(failure: Failed) -> Iterator[Line]:
    stage = "" if failure.stage == "read" else f"{failure.stage}: "
    yield line(("failed: ", "bold red"), f"{stage}{clean(failure.error)}", indent=2)
    for row in (failure.traceback or "").splitlines():
        yield line((clean(row), "dim"), indent=4)


def _listed_lines(listed: Sequence[tuple[str, str]]) -> Iterator[Line]:
    yield line(("not audited on their own:", "dim"))
    for name, reason in listed[:MANY]:
        yield line(f"{clean(name)}  ({clean(reason)})", indent=2)
    if len(listed) > MANY:
        yield line((f"and {len(listed) - MANY} more files", "dim"), indent=2)


def _summary_line(audit: Audit) -> Line:
    number, _, rest = tally(audit).partition(": ")
    return line((f"{number}: ", "bold"), rest)


REPORTER = Reporter(name="text", summary="for people; the default", suffixes=(".txt",), render=render)
