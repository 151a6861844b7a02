"""What a rule is about, for whoever shows its findings: the parts of a rule that are text."""

from __future__ import annotations

from dataclasses import dataclass

from bn_audit.subject.finding import Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleDescription:
    """One rule of a run.

    Attributes:
        summary: One line.
        severity: For the intent of the run; a finding may have another one.
        remedy: What to do.
        documentation: One sentence, then paragraphs that begin with ``What it checks:``, ``Why it matters:``,
            ``Example:``, ``Remedy:``, ``Limits:`` or ``Sources:``.
    """

    code: str
    name: str
    summary: str
    severity: Severity
    remedy: str
    documentation: str
