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
    batch statistics are intended (meta-learning, test-time adaptation), declare a waiver with its reason.
Limits: a state dict in which the statistics are missing is judged by BN201, an ONNX graph by BN304. A pickle names
    the class of a layer but not its base classes, so a subclass of unknown name may be an instance norm, which needs no
    statistics: that is a warning.
    A batch-norm call that normalises weights (weight standardisation) or single samples (an InstanceNorm in disguise)
    is silent; where a graph does not show which it is, confidence is medium, unless the proof of the batch flow
    acquits the call.
Sources: torch/nn/modules/batchnorm.py, bn_training in _BatchNorm.forward; pytorch/pytorch issue 156051.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._batch_flow import is_acquitted
from bn_audit.rules._figures import LISTED
from bn_audit.rules._layers import (
    ONNX_ORIGINS,
    batch_norm_counts,
    by_model,
    counted,
    stores_no_statistics,
    surest,
)
from bn_audit.subject.finding import Confidence, Finding, Severity
from bn_audit.subject.norm import InputOrigin, Mode, NormLayer
from bn_audit.subject.subject import Subject


def _stores_nothing(norm: NormLayer) -> bool:
    """Return whether this batch norm has no statistics to use; in ONNX these are inputs, not stored."""
    return (
        norm.kind.is_batch_norm
        and norm.mode_origin not in ONNX_ORIGINS
        and stores_no_statistics(norm)
        and not norm.uninitialised
        and norm.input_origin not in (InputOrigin.PARAMETERS, InputOrigin.INSTANCES)
    )


def _may_be_instance_norm(norm: NormLayer) -> bool:
    """Return whether the layer is of a class that a pickle names without its base classes: a batch or instance norm."""
    return norm.uses_batch_statistics is None and norm.mode in (Mode.TRAIN, Mode.EVAL)


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model with batch norms that store no statistics, and one for what may be such."""
    totals = batch_norm_counts(subject)
    lacking = [norm for norm in subject.norms if _stores_nothing(norm) and not is_acquitted(subject, norm)]
    for route, norms in by_model(norm for norm in lacking if norm.uses_batch_statistics is True).items():
        yield _error(norms, totals[route], route)
    for route, norms in by_model(filter(_may_be_instance_norm, lacking)).items():
        yield _warning(norms, totals[route], route)


def _error(norms: list[NormLayer], total: int, route: str) -> Finding:
    certain = [norm for norm in norms if norm.input_origin is not InputOrigin.UNDECIDED]
    return RULE.finding(
        f"{counted(len(norms), total, ('has', 'have'), route=route)} no running statistics and "
        f"{'normalises' if len(norms) == 1 else 'normalise'} with the current batch, even after eval()",
        locations=tuple(norm.location for norm in norms),
        evidence={"without_statistics": len(norms), "batch_norms": total},
        confidence=surest(certain) if certain else Confidence.MEDIUM,
    )


def _warning(norms: list[NormLayer], total: int, route: str) -> Finding:
    classes = list(dict.fromkeys(norm.type_name for norm in norms))
    return RULE.finding(
        f"{counted(len(norms), total, ('has', 'have'), route=route, noun='layer')} no running statistics and "
        f"{'is' if len(norms) == 1 else 'are'} of a class that may be a batch norm, which would normalise with the "
        f"current batch, or an instance norm, which would not ({classes[0]})",
        locations=tuple(norm.location for norm in norms),
        evidence={"without_statistics": len(norms), "batch_norms": total, "classes": list(classes[:LISTED])},
        remedy="If it is an instance norm, nothing is wrong; if it is a batch norm, train with "
        "track_running_stats=True. The class itself shows it: bn-audit check package.module:factory.",
        severity=Severity.WARNING,
        confidence=Confidence.MEDIUM,
    )


RULE = Rule(
    code="BN103",
    name="no-running-statistics",
    summary="batch norm without stored statistics: it uses the batch's even after eval()",
    severity=Severity.ERROR,
    check=check,
    remedy="Train with track_running_stats=True or estimate the statistics on representative data; where batch "
    "statistics are intended, declare a waiver with its reason.",
)
