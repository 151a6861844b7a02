"""What the findings mean: which rules run, how bad each finding is for the intent, which exit code follows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bn_audit.errors import UsageError
from bn_audit.interfaces import Rule
from bn_audit.subject.finding import Finding, Intent, Location, Severity
from bn_audit.subject.report import Report
from bn_audit.subject.subject import Facts

if TYPE_CHECKING:
    from bn_audit.subject.comparison import FrozenPattern

MODE_NOT_RECORDED = "BN111"
"""The finding that says that a mode cannot be known; under ``--strict`` it fails the run."""

MODE_OF_FROZEN = frozenset({"BN101", "BN102"})
"""Findings about training mode, which is normal in a fine-tuning run, but not for the layers that it claims frozen."""

FREEZING_REMEDY = (
    "Call eval() on the frozen layers after each model.train(), for instance in an overridden train(), or drop the "
    "pattern if they are meant to adapt."
)


def select_rules(rules: Sequence[Rule], select: Sequence[str], ignore: Sequence[str]) -> tuple[Rule, ...]:
    """Return the rules whose code begins with one of `select` (all without any) and with none of `ignore`.

    Raises:
        UsageError: a prefix fits no rule.
    """
    codes = [rule.code for rule in rules]
    for prefix in (*select, *ignore):
        if not prefix or not any(code.startswith(prefix) for code in codes):
            near = difflib.get_close_matches(prefix, codes, n=1, cutoff=0.4)
            hint = f", did you mean {near[0]}?" if near else ": run 'bn-audit explain' for the list"
            raise UsageError(f"no rule code begins with {prefix!r}{hint}")
    return tuple(
        rule
        for rule in rules
        if (not select or rule.code.startswith(tuple(select))) and not (ignore and rule.code.startswith(tuple(ignore)))
    )


def compares(rule: Rule) -> bool:
    """Return whether a rule has anything to say about a comparison."""
    return rule.compares or Facts.REFERENCE in rule.needs


def was_judged(code: str, report: Report, rules: Sequence[Rule]) -> bool:
    """Return whether a rule could have found something in a report: it looked, or knew that there is nothing to see.

    Args:
        rules: The rules of the run.
    """
    rule = next((rule for rule in rules if rule.code == code), None)
    undecided = code in report.deselected or any(skipped.code == code for skipped in report.skipped)
    if rule is None or report.failed or undecided:
        return False
    lacks_reference = compares(rule) and report.comparison is None
    lacks_run = Facts.OBSERVATION in rule.needs and report.observation is None
    return code in report.checked or not (lacks_reference or lacks_run or report.comparison_only)


def deselected(rules: Sequence[Rule], chosen: Sequence[Rule], *, comparison_only: bool) -> tuple[str, ...]:
    """Return the codes that the user chose not to check among those that this kind of run checks."""
    return tuple(rule.code for rule in rules if rule not in chosen and (not comparison_only or compares(rule)))


def meant(rules: Sequence[Rule], comparison_only: bool) -> tuple[Rule, ...]:
    """Return the rules that a run checks which judges an artifact, or a comparison alone."""
    return tuple(rule for rule in rules if compares(rule) or not comparison_only)


def judge(
    findings: Iterable[Finding],
    rules: Sequence[Rule],
    intent: Intent,
    frozen: Sequence[FrozenPattern] = (),
    severities: Mapping[str, Severity] | None = None,
) -> tuple[Finding, ...]:
    """Return the findings with the severity they have for `intent`, without those that another one explains.

    Layers that a pattern of `frozen` matches must not be in training mode, whatever the intent: where the intent
    lowers a finding about the mode, the part about these layers keeps its severity as a finding of its own.

    Args:
        severities: By code; they stand for every intent.
    """
    by_code = {rule.code: rule for rule in rules}
    claimed = {_layer(location) for pattern in frozen for location in pattern.layers}
    judged: list[Finding] = []
    for finding in findings:
        rule = by_code[finding.code]
        is_default = finding.severity is rule.severity
        severity = rule.overrides.get(intent, finding.severity) if is_default else finding.severity
        if intent is Intent.FINETUNE and finding.code in MODE_OF_FROZEN and severity.rank < finding.severity.rank:
            judged.extend(_split(finding, severity, claimed))
        else:
            judged.append(replace(finding, severity=severity))
    set_by_hand = severities or {}
    judged = [replace(item, severity=set_by_hand.get(item.code, item.severity)) for item in judged]
    judged = _without_superseded(judged, by_code)
    return tuple(sorted(judged, key=lambda finding: (-finding.severity.rank, finding.code)))


def _split(finding: Finding, lowered: Severity, claimed: set[tuple[str, str]]) -> Iterator[Finding]:
    """Yield the part of a finding that is about layers claimed frozen, as severe as ever, and the rest, lowered."""
    frozen = tuple(location for location in finding.locations if _layer(location) in claimed)
    rest = tuple(location for location in finding.locations if _layer(location) not in claimed)
    if frozen:
        share = f"{len(frozen)} of these {len(finding.locations)}" if rest else "every one of these"
        yield replace(
            finding,
            message=f"{finding.message}, and {share} {'are' if rest and len(frozen) > 1 else 'is'} claimed frozen",
            locations=frozen,
            evidence={**finding.evidence, "claimed_frozen": len(frozen)},
            remedy=FREEZING_REMEDY,
        )
    if rest or not frozen:
        yield replace(finding, severity=lowered, locations=rest)


def _without_superseded(findings: list[Finding], rules: dict[str, Rule]) -> list[Finding]:
    explained: dict[str, dict[tuple[str, str], str]] = {}
    for finding in findings:
        for code in rules[finding.code].supersedes:
            explained.setdefault(code, {}).update(dict.fromkeys(map(_layer, finding.locations), finding.code))
    kept = []
    for finding in findings:
        layers = explained.get(finding.code)
        if layers is None:
            kept.append(finding)
            continue
        locations = tuple(location for location in finding.locations if _layer(location) not in layers)
        if len(locations) == len(finding.locations):
            kept.append(finding)
        elif locations:
            told = sorted({layers[_layer(place)] for place in finding.locations if _layer(place) in layers})
            count = len(finding.locations) - len(locations)
            message = f"{finding.message}; {count} of these {'is' if count == 1 else 'are'} told by {', '.join(told)}"
            kept.append(replace(finding, message=message, locations=locations))
    return kept


def _layer(location: Location) -> tuple[str, str]:
    return location.model, location.path or location.node or ""


def exit_code(
    reports: Sequence[Report], *, fail_on: Severity, strict: bool, exit_zero: bool, unused_waivers: int = 0
) -> int:
    """Return 0 for nothing at or above `fail_on`, 1 for findings, 3 where something could not be audited.

    3 wins over 1. `strict` counts what was not checked, compared, run or read, or has no recorded mode, as not audited,
    and a waiver that waives nothing as a finding; `exit_zero` turns 1 into 0 and leaves 3.
    """
    if any(report.failed for report in reports):
        return 3
    if strict and any(_is_incomplete(report) for report in reports):
        return 3
    if exit_zero:
        return 0
    return int(any(report.at_least(fail_on) for report in reports) or (strict and unused_waivers > 0))


def _is_incomplete(report: Report) -> bool:
    unrecorded = any(finding.code == MODE_NOT_RECORDED for finding in report.findings)
    uncompared = report.comparison is not None and any(
        not item.by_choice for item in report.comparison.values.not_compared
    )
    unrun = report.observation is not None and len(report.models) > 1
    return bool(report.skipped or report.unread or unrecorded or uncompared or unrun)
