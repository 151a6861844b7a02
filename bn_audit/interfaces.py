"""The contracts between the pipeline and its plugins: frozen dataclasses of plain functions.

A plugin file defines one constant of its folder's type; adding a plugin is adding a file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TextIO

from bn_audit.containers.target import Target
from bn_audit.subject.finding import Confidence, EvidenceValue, Finding, Intent, Location, Severity
from bn_audit.subject.report import Audit
from bn_audit.subject.rule_description import RuleDescription
from bn_audit.subject.subject import Facts, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How to recognise one artifact format by its content, and to read it without running anything in it.

    Attributes:
        name: As it stands in the JSON report.
        summary: What the format is, for help and documentation.
        tells: What an artifact of this format can tell about batch norm, for the table in the README.
        cannot_tell: What it cannot.
        sniff: Returns whether the target is of this format; reads no more than the start of the file or the zip
            directory. At most one format may accept a target.
        read: Returns what is known. Raises an ``ArtifactError`` and nothing else for bad input.
    """

    name: str
    summary: str
    tells: str
    cannot_tell: str
    sniff: Callable[[Target], bool]
    read: Callable[[Target], Subject]


def concerns_batch_norms(subject: Subject) -> bool:
    """Return whether there is any batch norm to judge."""
    return bool(subject.batch_norms)


def leaves_nothing_open(_subject: Subject) -> Iterator[str]:
    """Yield nothing: most rules decide every case once they have the facts that they need."""
    yield from ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One question about an artifact.

    Attributes:
        code: ``BN`` and three digits, never reused.
        name: The bad pattern, in kebab case.
        summary: One line for tables.
        severity: For the intent ``deploy``.
        overrides: Severity for other intents.
        supersedes: Codes that are not reported for a layer for which this rule fires.
        remedy: What to do; a finding may give a more exact one.
        concerns: Returns whether the question makes sense for this artifact; if not, the rule is silent.
        needs: Facts without which the rule is reported as not checked.
        needs_any: Facts of which one is enough.
        check: Yields the findings. Pure: it looks at the subject and nothing else.
        open_questions: Yields what the rule could not decide although it has its facts, one reason each; every reason
            is reported as not checked. Pure, like `check`.
        compares: It judges the artifact beside a reference, where there is one.
    """

    code: str
    name: str
    summary: str
    severity: Severity
    remedy: str
    check: Callable[[Subject], Iterator[Finding]]
    needs: Facts = Facts.NONE
    needs_any: Facts = Facts.NONE
    concerns: Callable[[Subject], bool] = concerns_batch_norms
    overrides: Mapping[Intent, Severity] = field(default_factory=dict)
    supersedes: tuple[str, ...] = ()
    open_questions: Callable[[Subject], Iterator[str]] = leaves_nothing_open
    compares: bool = False

    def lacks(self, facts: Facts) -> Facts:
        """Return what an artifact with these facts would have to tell too; nothing where the rule can look."""
        either = self.needs_any if not self.needs_any & facts else Facts.NONE
        return (self.needs & ~facts) | either

    @property
    def documentation(self) -> str:
        """The docstring of the file that defines the rule."""
        return sys.modules[self.check.__module__].__doc__ or ""

    def described(self, intent: Intent) -> RuleDescription:
        """Return the rule as text, with its severity for `intent`."""
        return RuleDescription(
            code=self.code,
            name=self.name,
            summary=self.summary,
            severity=self.overrides.get(intent, self.severity),
            remedy=self.remedy,
            documentation=self.documentation.strip(),
        )

    def finding(
        self,
        message: str,
        *,
        locations: tuple[Location, ...] = (),
        evidence: Mapping[str, EvidenceValue] | None = None,
        remedy: str | None = None,
        severity: Severity | None = None,
        confidence: Confidence = Confidence.HIGH,
    ) -> Finding:
        """Return a finding of this rule; a given `severity` stands for every intent (policy applies the overrides)."""
        return Finding(
            code=self.code,
            name=self.name,
            severity=severity or self.severity,
            confidence=confidence,
            message=message,
            remedy=remedy or self.remedy,
            locations=locations,
            evidence=evidence or {},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """One way to write the result of a run.

    Attributes:
        name: As given to ``--format``.
        suffixes: File suffixes for which ``-o FILE`` chooses this reporter.
        render: Writes the audit. `colour` is True for a terminal that shows colours.
    """

    name: str
    summary: str
    suffixes: tuple[str, ...]
    render: Callable[[Audit, TextIO, bool], None]
