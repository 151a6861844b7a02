"""The result of an audit: one `Report` per source, one `Audit` per run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bn_audit.errors import FindingsError
from bn_audit.subject.finding import Finding, Intent, Severity
from bn_audit.subject.norm import NormLayer
from bn_audit.subject.subject import Model, OutputFlow

if TYPE_CHECKING:
    from bn_audit.subject.comparison import Comparison, FrozenPattern
    from bn_audit.subject.observation import Observation
    from bn_audit.subject.rule_description import RuleDescription
    from bn_audit.subject.waiver import KnownFinding, WaivedFinding, Waiver


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A rule that concerns the artifact and could not be checked, with the reason."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A stage that failed: reading, a rule, a run.

    Attributes:
        stage: ``read`` or the code of the rule.
        error: One message for the user.
        traceback: Where a fault of this tool arose; None for an expected error such as a truncated file.
    """

    stage: str
    error: str
    traceback: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything the audit says about one source.

    Attributes:
        source: The target as the user named it.
        format: Name of the format; None where it could not be read.
        size_bytes: Size of the artifact; 0 for a live module.
        bytes_read: Bytes of it that the audit read.
        batch_flow: Verdict for each output of each graph; None where no graph was followed.
        flow_seconds: Time the proof took.
        observation: What the model did when it was run; None where it was not.
        comparison: The source beside its reference, where one was given.
        frozen: The layers claimed frozen, one entry for each pattern given.
        comparison_only: Only the comparison was judged, not the artifact itself: its modes say nothing here.
        unread: Parts that were seen and not read, one reason each.
        deselected: Codes of the rules that the user chose not to check.
        checked: Codes of the rules that concern the artifact and looked at it, whatever they found.
        waived: Findings, or their parts at some locations, that a waiver takes out of `findings`.
        baselined: The same for what a baseline holds.
    """

    source: str
    format: str | None
    intent: Intent
    size_bytes: int = 0
    bytes_read: int = 0
    models: tuple[Model, ...] = ()
    norms: tuple[NormLayer, ...] = ()
    findings: tuple[Finding, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    failed: tuple[Failed, ...] = ()
    batch_flow: tuple[OutputFlow, ...] | None = None
    flow_seconds: float | None = None
    observation: Observation | None = None
    comparison: Comparison | None = None
    frozen: tuple[FrozenPattern, ...] = ()
    comparison_only: bool = False
    unread: tuple[str, ...] = ()
    deselected: tuple[str, ...] = ()
    checked: tuple[str, ...] = ()
    waived: tuple[WaivedFinding, ...] = ()
    baselined: tuple[Finding, ...] = ()

    def __repr__(self) -> str:
        """Return the source and what was found, in one line: the whole of it fills screens."""
        severities = [finding.severity for finding in self.findings]
        counts = ", ".join(f"{severities.count(severity)} {severity.value}(s)" for severity in Severity)
        gaps = f"; {len(self.skipped)} not checked, {len(self.failed)} failed" if self.skipped or self.failed else ""
        return f"<Report {self.source!r}: {counts}{gaps}>"

    def at_least(self, level: Severity) -> tuple[Finding, ...]:
        """Return the findings of this severity or worse."""
        return tuple(finding for finding in self.findings if finding.severity.rank >= level.rank)

    def raise_for_findings(self, level: Severity = Severity.ERROR) -> None:
        """Raise where the audit found something at `level` or worse, or could not be completed.

        Raises:
            FindingsError: names each finding or failure.
        """
        problems = [f"{failure.stage}: {failure.error}" for failure in self.failed]
        for finding in self.at_least(level):
            layers = ", ".join(location.path or "(root)" for location in finding.locations[:5])
            more = f" and {len(finding.locations) - 5} more" if len(finding.locations) > 5 else ""
            problems.append(f"{finding.code} {finding.name}: {finding.message}{f' [{layers}{more}]' if layers else ''}")
        if problems:
            raise FindingsError(f"{self.source}: " + "; ".join(problems))

    def detached(self) -> Report:
        """Return the same report with tensors that no longer load, as it travels between processes."""
        models = tuple(replace(model, tensors=tuple(ref.detached() for ref in model.tensors)) for model in self.models)
        return replace(
            self,
            models=models,
            norms=tuple(norm.detached() for norm in self.norms),
            comparison=self.comparison.detached() if self.comparison is not None else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The reports of one run and what they mean for the gate.

    Attributes:
        reports: One per source, in the order asked for.
        listed: Files seen in a directory that hold no model, or one that is read elsewhere or not at all, each with
            the reason.
        fail_on: The level at which a finding fails the run.
        exit_code: 0 nothing at or above `fail_on`; 1 findings; 3 something could not be audited.
        rules: The rules of the run, those that do not concern any of its sources included.
        unused_waivers: Waivers that apply to what was audited and found nothing to waive there.
        settings: The settings file that had a part in the run, as shown to people; None without one.
        resolved: Entries of the baseline that no longer occur in the sources that were audited.
    """

    reports: tuple[Report, ...]
    intent: Intent
    fail_on: Severity
    exit_code: int
    listed: tuple[tuple[str, str], ...] = ()
    rules: tuple[RuleDescription, ...] = ()
    unused_waivers: tuple[Waiver, ...] = ()
    resolved: tuple[KnownFinding, ...] = ()
    settings: str | None = None
