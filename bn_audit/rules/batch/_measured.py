"""What a run says about an output, put together with what the proof of the batch flow says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bn_audit.interfaces import Rule
from bn_audit.rules._batch_flow import INDEPENDENT as PROVED_INDEPENDENT
from bn_audit.rules._batch_flow import MARK_QUANTISES, MIXES, UNDECIDED, outputs_by_model
from bn_audit.rules._observed import (
    by_how_much,
    cause,
    figures,
    is_decided,
    is_declared_otherwise,
    likely_cause,
    locations,
    named,
    observed,
    quoted,
    shortened,
    small_effect,
    undecided,
    was_run,
)
from bn_audit.rules.batch._outputs import undecided_outputs
from bn_audit.subject.finding import Confidence, EvidenceValue, Finding
from bn_audit.subject.run_verdict import CONTENT, INDEPENDENT
from bn_audit.subject.subject import Subject

if TYPE_CHECKING:
    from bn_audit.subject.observation import Observation


def with_run(
    rule: Rule, subject: Subject, proved: Mapping[str, Sequence[Finding]], verdict: str, sentence: str
) -> Iterator[Finding]:
    """Yield the findings of the proof and of the run as one for each cause.

    Args:
        proved: Findings of the proof, by the route of their model.
        verdict: The run's verdict that this rule reports.
        sentence: What the run shows, without the figures.
    """
    run = observed(subject)
    for route, found in proved.items():
        if run is None or run.model != route:
            yield from found
        elif run.verdict == verdict:
            yield from _both(subject, run, found)
        elif run.verdict == INDEPENDENT:
            yield from (_not_shown(finding, run) for finding in found)
        else:
            yield from found
    if run is not None and run.verdict == verdict and not proved.get(run.model):
        yield _measured(rule, subject, run, sentence)


def _both(subject: Subject, run: Observation, found: Sequence[Finding]) -> Iterator[Finding]:
    for number, finding in enumerate(found):
        severity = small_effect(run) or finding.severity
        if number:
            yield replace(finding, severity=severity)
            continue
        yield replace(
            finding,
            message=f"{finding.message}; proved, and measured: {_amount(subject, run, said=finding.message)}",
            severity=severity,
            confidence=Confidence.HIGH,
            evidence={**finding.evidence, "measured": _evidence(subject, run)},
        )


def _not_shown(finding: Finding, run: Observation) -> Finding:
    """Return a finding that is proved and was not seen: the inputs may not reach it, or the proof is too wide."""
    why = shortened(run.why) if run.why else "independent"
    return replace(
        finding,
        message=f"{finding.message}; proved, and not seen in a run ({why})",
        confidence=Confidence.MEDIUM,
        evidence={**finding.evidence, "measured": figures(run)},
    )


def _measured(rule: Rule, subject: Subject, run: Observation, sentence: str) -> Finding:
    where = f" of '{run.model}'" if run.model else ""
    code = cause(subject, run)
    parts = [f"a sample's answer{where} {sentence}: {_amount(subject, run)}"]
    if _is_contradicted(subject, run):
        parts.append("the proof of the graph saw no such dependence, the measurement counts")
    likely = likely_cause(subject, run)
    if likely is not None:
        parts.append(f"{likely} reports batch norms that use the batch's statistics")
    remedy = f"Repair the batch norm that {code} reports." if code is not None else _restoring(run)
    if remedy is None and code is None and is_declared_otherwise(subject, run):
        remedy = (
            "This batch norm is saved in evaluation mode and runs with the batch's statistics: look for train() or "
            "training=True in forward."
        )
    if remedy is None and likely is not None:
        remedy = f"Repair the batch norms that {likely} reports, and run the model again."
    return rule.finding(
        "; ".join(parts),
        locations=locations(run, run.first_divergence),
        evidence={"cause": code or likely, "measured": _evidence(subject, run)},
        remedy=remedy,
        severity=small_effect(run),
    )


def _amount(subject: Subject, run: Observation, *, said: str = "") -> str:
    """Return how far the answer moves, where that begins and what takes it away.

    Args:
        said: What the message says already; a rule that it names is not named again.
    """
    parts = [by_how_much(run) or "by an amount that was not measured"]
    if run.first_divergence is not None:
        code = cause(subject, run)
        see = "" if code is None or f"(see {code})" in said else f" (see {code})"
        parts.append(f"first at {named(run.first_divergence)}{see}")
    if run.combined_at is not None and run.combined_at != run.first_divergence:
        parts.append(f"first combined at {named(run.combined_at)}")
    if run.restored_by:
        first = f"'{run.restored_by[0]}'" if len(run.restored_by) == 1 else f"{len(run.restored_by)} norm layers"
        parts.append(f"gone with {first} in evaluation mode")
    return ", ".join(parts)


def _restoring(run: Observation) -> str | None:
    if not run.restored_by:
        return None
    return (
        f"Set {quoted(run.restored_by)} to evaluation mode with eval() before saving or exporting: a run shows that "
        "this is enough."
    )


def _is_contradicted(subject: Subject, run: Observation) -> bool:
    """Return whether the proof decided every output of the model and found no dependence at all."""
    flows = outputs_by_model(subject).get(run.model, [])
    return bool(flows) and all(flow.verdict == PROVED_INDEPENDENT for flow in flows)


def _evidence(subject: Subject, run: Observation) -> EvidenceValue:
    """Return the figures of the run, with the outputs that it moved although they are proved to be independent."""
    floor = run.noise_floor or 0.0
    moved = {output.name for output in run.outputs if output.max_rel is not None and output.max_rel > floor}
    flows = outputs_by_model(subject, PROVED_INDEPENDENT).get(run.model, [])
    against: list[EvidenceValue] = [flow.output for flow in flows if flow.output in moved]
    return {**figures(run), "proved_independent_and_moved": against}


def is_quantisation(subject: Subject, run: Observation) -> bool:
    """Return whether dynamic quantisation is what couples the samples: the run says so, or the proof at that node."""
    if run.verdict != CONTENT:
        return False
    if run.quantised_dynamically:
        return True
    marks = [mark for mark in subject.flow_marks if mark.model == run.model and mark.kind == MARK_QUANTISES]
    place = run.first_divergence
    if place is None:
        others = [flow for flow in outputs_by_model(subject, MIXES).get(run.model, []) if flow.node is not None]
        return bool(marks) and all(flow.node in {mark.node for mark in marks} for flow in others)
    return any((place.node is not None and place.node == mark.node) for mark in marks)


def still_open(subject: Subject) -> Iterator[str]:
    """Yield what neither the proof nor a run decided."""
    run = observed(subject)
    decided = run is not None and is_decided(run)
    if not (decided and run is not None and set(outputs_by_model(subject, UNDECIDED)) <= {run.model}):
        yield from undecided_outputs(subject)
    reason = undecided(subject)
    if was_run(subject) and reason and not _is_proved(subject):
        yield reason


def _is_proved(subject: Subject) -> bool:
    """Return whether the proof decided every output of the model that was run."""
    run = observed(subject)
    flows = outputs_by_model(subject).get(run.model, []) if run is not None else []
    return bool(flows) and all(flow.verdict != UNDECIDED for flow in flows)
