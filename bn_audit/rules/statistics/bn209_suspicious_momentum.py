"""The momentum of a batch norm looks inverted, is out of range, is 0, or differs from the reference's.

What it checks: momentum in torch's convention, where it is the weight of the new batch (usually 0.1 or less). Values
    from 0.9 to below 1, values outside 0 to 1, and 0 where the statistics are still initial or the layer trains. Beside
    a reference: whether both have the same momentum.
Why it matters: TensorFlow's momentum is the weight of the old value. 0.99 typed into torch makes the running
    statistics those of the last batch or two, so evaluation is as noisy as a single batch. With 0 they never move.
Example:
    from torch import nn
    copied = nn.BatchNorm2d(8, momentum=0.99)    # BN209: TensorFlow's default
    correct = nn.BatchNorm2d(8, momentum=0.01)   # the same thing in torch
    never = nn.BatchNorm2d(8, momentum=0.0)      # BN209: use momentum=None for a plain average
Remedy: use 1 - momentum when porting from TensorFlow, Keras or Flax, and estimate the statistics again.
Limits: momentum=1.0 (statistics of one calibration batch) and momentum=None (plain average) are legitimate and silent.
    So is a layer in evaluation mode whose parameters take no gradients, and momentum 0 in evaluation mode over real
    statistics: both are ways to freeze. An ONNX node in inference form has no use for its momentum and is silent
    too, and so is a high momentum of a layer without torch's flags (SwitchNorm, EvoNorm): written by hand, these mean
    the old value's weight. A momentum that differs from the reference's is a note in a graph for inference. Whether 0.9
    was meant cannot be seen, so confidence is medium.
Sources: torch.nn.BatchNorm2d, note on momentum; Keras BatchNormalization (momentum 0.99); Lightning issue 14866.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._drift import by_model as drifts_by_model
from bn_audit.rules._drift import drifts_of
from bn_audit.rules._figures import LISTED, distinct, figure
from bn_audit.rules._layers import ONNX_ORIGINS, batch_norm_counts, by_model, counted, stores_no_statistics
from bn_audit.rules._values import values_of
from bn_audit.subject.finding import Confidence, Finding, Severity
from bn_audit.subject.norm import Mode, ModeOrigin, NormLayer
from bn_audit.subject.subject import Facts, Subject

INVERTED = 0.9
"""The least momentum that other frameworks use in their convention (0.9, 0.99, 0.997, 0.999)."""


FIXED_ORIGINS = ONNX_ORIGINS | {ModeOrigin.EXPORTED_ARGUMENT, ModeOrigin.TRACED_CONSTANT}
"""Graphs in inference form that cannot be trained further."""

INVERSE = (
    "as in the convention of TensorFlow, where momentum is the weight of the old value",
    Confidence.MEDIUM,
)
OUT_OF_RANGE = ("outside 0 to 1", Confidence.HIGH)
NEVER_MOVED = ("so that the initial statistics never move", Confidence.HIGH)
STANDS_STILL = ("in training mode, so that the statistics never move", Confidence.MEDIUM)


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model and cause."""
    yield from _differing(subject)
    totals = batch_norm_counts(subject)
    values = values_of(subject) if Facts.VALUES in subject.facts else None
    initial = {layer.norm.location for layer in (values.layers if values else ()) if layer.has_initial_statistics}
    for route, norms in by_model(filter(_uses_momentum, subject.norms)).items():
        causes: dict[tuple[str, Confidence], list[NormLayer]] = {}
        for norm in norms:
            cause = _cause(norm, is_initial=norm.location in initial)
            if cause is not None:
                causes.setdefault(cause, []).append(norm)
        for (explanation, confidence), found in causes.items():
            momenta = sorted({norm.momentum for norm in found if norm.momentum is not None})
            yield RULE.finding(
                f"{counted(len(found), totals[route], ('has', 'have'), route=route)} momentum {distinct(momenta)}, "
                f"{explanation}",
                locations=tuple(norm.location for norm in found),
                evidence={"layers": len(found), "momentum": [figure(value) for value in momenta[:LISTED]]},
                confidence=confidence,
            )
    if values is not None:
        values.raise_for_errors()


def _differing(subject: Subject) -> Iterator[Finding]:
    fixed = {norm.location for norm in subject.norms if norm.mode is Mode.EVAL and norm.mode_origin in FIXED_ORIGINS}
    for route, drifts in drifts_by_model(drifts_of(subject)).items():
        found = [drift for drift in drifts if drift.momentum.differs]
        if found and subject.comparison is not None:
            first = found[0]
            yield RULE.finding(
                f"{counted(len(found), len(drifts), ('has', 'have'), route=route)} another momentum than "
                f"{subject.comparison.reference} ({first.location.path or '(root)'}: {first.momentum.target!r}, the "
                f"reference has {first.momentum.reference!r}; tolerance {first.momentum.tolerance:g})",
                locations=tuple(drift.location for drift in found),
                evidence={
                    "layers": len(found),
                    "momentum": first.momentum.target,
                    "reference_momentum": first.momentum.reference,
                },
                remedy="Build the layer with the momentum of the reference if it is trained further.",
                severity=Severity.NOTE if all(drift.location in fixed for drift in found) else Severity.WARNING,
            )


def _cause(norm: NormLayer, *, is_initial: bool) -> tuple[str, Confidence] | None:
    momentum = norm.momentum
    if momentum is None:
        return None
    if momentum == 0.0:
        return NEVER_MOVED if is_initial else STANDS_STILL if norm.mode is Mode.TRAIN else None
    if INVERTED <= momentum < 1.0:
        return INVERSE if _has_torchs_convention(norm) else None
    return None if 0.0 < momentum <= 1.0 else OUT_OF_RANGE


def _has_torchs_convention(norm: NormLayer) -> bool:
    """Return whether momentum is the weight of the new batch; layers written by hand may mean the old value's."""
    return norm.mode_origin is not ModeOrigin.MODULE_FLAG or norm.track_running_stats is not None


def _uses_momentum(norm: NormLayer) -> bool:
    """Return whether this batch norm updates statistics, unless it is frozen altogether or for inference for good."""
    is_frozen = norm.mode is Mode.EVAL and (norm.requires_grad is False or norm.mode_origin in ONNX_ORIGINS)
    return norm.kind.is_batch_norm and not stores_no_statistics(norm) and not is_frozen


RULE = Rule(
    code="BN209",
    name="suspicious-momentum",
    summary="momentum looks inverted (TensorFlow's convention), is out of range, is 0, or differs from the reference",
    severity=Severity.WARNING,
    needs=Facts.SETTINGS,
    check=check,
    remedy="Use 1 - momentum when porting from TensorFlow, Keras or Flax (None for a plain average), and estimate the "
    "statistics again.",
    compares=True,
)
