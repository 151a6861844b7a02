"""Batch-norm calls of a graph that an export fixed in training form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bn_audit.interfaces import Rule
from bn_audit.rules._batch_flow import is_acquitted
from bn_audit.rules._layers import (
    ONNX_ORIGINS,
    batch_norm_counts,
    by_model,
    counted,
    stores_no_statistics,
    surest,
)
from bn_audit.subject.finding import Confidence, EvidenceValue, Finding
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin, NormLayer
from bn_audit.subject.subject import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingForm:
    """How one format fixes the mode.

    Attributes:
        origin: Where it states the mode.
        statement: What the message says about the calls, after the verb.
        verb: Singular and plural form.
        noun: What the calls are called.
        evidence: What to add to the numbers.
    """

    origin: ModeOrigin
    statement: str
    verb: tuple[str, str] = ("is", "are")
    noun: str = "batch-norm call"
    evidence: Mapping[str, EvidenceValue] = field(default_factory=dict)


def is_fixed_in_training(norm: NormLayer, origin: ModeOrigin) -> bool:
    """Return whether this call uses the batch only because it was exported in training mode.

    A call without stored statistics is BN103: an export in evaluation mode would not change it. In ONNX such a call
    computes them (whatever its mode) or takes them from outside.
    """
    return (
        norm.kind.is_batch_norm
        and norm.mode_origin is origin
        and (norm.mode is Mode.TRAIN or origin is ModeOrigin.ONNX_COMPUTED)
        and norm.uses_batch_statistics is True
        and (origin in ONNX_ORIGINS or not stores_no_statistics(norm))
        and norm.input_origin not in (InputOrigin.PARAMETERS, InputOrigin.INSTANCES)
    )


def training_form_findings(rule: Rule, subject: Subject, form: TrainingForm) -> Iterator[Finding]:
    """Yield one finding for each model, and another where a graph does not show what the call normalises."""
    totals = batch_norm_counts(subject)
    fixed = (norm for norm in subject.norms if is_fixed_in_training(norm, form.origin))
    for route, norms in by_model(norm for norm in fixed if not is_acquitted(subject, norm)).items():
        undecided = [norm for norm in norms if norm.input_origin is InputOrigin.UNDECIDED]
        certain = [norm for norm in norms if norm.input_origin is not InputOrigin.UNDECIDED]
        for group, doubt in ((certain, ""), (undecided, "; what it normalises is not decided")):
            if not group:
                continue
            whole = totals[route]
            calls = counted(len(group), whole, form.verb, route=route, noun=form.noun)
            yield rule.finding(
                f"{calls} {form.statement}{doubt}",
                locations=tuple(norm.location for norm in group),
                evidence={
                    "training": len(group),
                    "batch_norms": whole,
                    "input_decided": not doubt,
                    **form.evidence,
                },
                confidence=Confidence.MEDIUM if doubt else surest(group),
            )
