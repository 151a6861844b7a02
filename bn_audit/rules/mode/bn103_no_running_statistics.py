"""Batch-norm layers have no running statistics and use the batch's, even after eval().

What it checks: batch norms of saved modules and graphs that normalise with the current batch and store neither a
    running mean nor a running variance. It fires once for each model.
Why it matters: without stored statistics there is nothing else to normalise with. Such a layer computes mean and
    variance from the current batch in either mode, so a sample's answer depends on its neighbours for good.
Example:
    from torch import nn
    layer = nn.BatchNorm2d(8, track_running_stats=False)  # BN103, also after layer.eval()
    adapted = nn.BatchNorm2d(8).eval()
    adapted.running_mean = adapted.running_var = None     # BN103: the way of test-time adaptation
Remedy: train with track_running_stats=True, or estimate the statistics on representative data before deployment. If
    batch statistics are intended (meta-learning, test-time adaptation), declare it with a waiver.
Limits: a state dict in which the statistics are missing is judged by BN201, an ONNX graph by BN304.
    A batch-norm call that normalises weights (weight standardisation) or single samples (an InstanceNorm in disguise)
    is silent; where a graph does not show which it is, confidence is medium, unless the proof of the batch flow
    acquits the call.
Sources: torch/nn/modules/batchnorm.py, bn_training in _BatchNorm.forward; pytorch/pytorch issue 156051.
"""

from __future__ import annotations

from collections.abc import Iterator

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
from bn_audit.subject.finding import Confidence, Finding, Severity
from bn_audit.subject.norm import InputOrigin, NormLayer
from bn_audit.subject.subject import Subject


def _needs_batch(norm: NormLayer) -> bool:
    """Return whether this batch norm can only use the statistics of the batch."""
    return (
        norm.kind.is_batch_norm
        and norm.mode_origin not in ONNX_ORIGINS
        and stores_no_statistics(norm)
        and norm.uses_batch_statistics is True
        and not norm.uninitialised
        and norm.input_origin not in (InputOrigin.PARAMETERS, InputOrigin.INSTANCES)
    )


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model with batch norms that store no statistics."""
    totals = batch_norm_counts(subject)
    needing = (norm for norm in subject.norms if _needs_batch(norm) and not is_acquitted(subject, norm))
    for route, lacking in by_model(needing).items():
        total = totals[route]
        certain = [norm for norm in lacking if norm.input_origin is not InputOrigin.UNDECIDED]
        yield RULE.finding(
            f"{counted(len(lacking), total, ('has', 'have'), route=route)} no running statistics and "
            f"{'normalises' if len(lacking) == 1 else 'normalise'} with the current batch, even after eval()",
            locations=tuple(norm.location for norm in lacking),
            evidence={"without_statistics": len(lacking), "batch_norms": total},
            confidence=surest(certain) if certain else Confidence.MEDIUM,
        )


RULE = Rule(
    code="BN103",
    name="no-running-statistics",
    summary="batch norm without stored statistics: it uses the batch's even after eval()",
    severity=Severity.ERROR,
    check=check,
    remedy="Train with track_running_stats=True or estimate the statistics on representative data; declare a waiver "
    "where batch statistics are intended.",
)
