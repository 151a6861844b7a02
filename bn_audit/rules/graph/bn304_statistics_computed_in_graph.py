"""An ONNX graph computes mean and variance of a batch norm from the activations, over the batch.

What it checks: where the statistics of a batch norm come from. It fires where the graph computes them at each call
    from the samples it is given, whether they feed a BatchNormalization node or the whole layer is written out in
    ReduceMean, Sub, Mul, Sqrt and Div.
Why it matters: exporters write a batch norm without running statistics in this way. The node itself says inference,
    so a search for training_mode finds nothing, and still every answer depends on the other samples.
Example:
    import torch
    from torch import nn
    layer = nn.BatchNorm2d(8, track_running_stats=False).eval()
    torch.onnx.export(nn.Sequential(nn.Conv2d(3, 8, 3), layer), (torch.randn(2, 3, 8, 8),), "model.onnx")  # BN304
Remedy: train with track_running_stats=True, or estimate the statistics on representative data, and export again. If
    batch statistics are intended (meta-learning, test-time adaptation), declare a waiver with its reason.
Limits: statistics of the weights (weight standardisation), of single samples (instance, layer and group norm) or
    computed from constants alone are silent, by the walk back from the node or by the proof of the batch flow.
    Statistics that the caller gives as an input of the model are silent too. A layer written out in other operators
    is not recognised as a batch norm; BN401 names its node. Replaces BN301 and BN407 for the same layer.
Sources: torch.onnx exporters, batch_norm and _native_batch_norm_legit; microsoft/onnxscript issue 1338.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules.graph._training_form import TrainingForm, training_form_findings
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.norm import ModeOrigin
from bn_audit.subject.subject import Facts, Subject

FORM = TrainingForm(
    origin=ModeOrigin.ONNX_COMPUTED,
    statement="no stored statistics: the graph computes mean and variance over each batch",
    verb=("has", "have"),
    noun="batch-norm layer",
)


def concerns(subject: Subject) -> bool:
    """Return whether any batch norm takes statistics that the graph computes."""
    return any(norm.mode_origin is FORM.origin for norm in subject.batch_norms)


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model and degree of certainty."""
    yield from training_form_findings(RULE, subject, FORM)


RULE = Rule(
    code="BN304",
    name="statistics-computed-in-graph",
    summary="mean and variance of an ONNX batch norm are computed from the activations, over the batch",
    severity=Severity.ERROR,
    supersedes=("BN301", "BN407"),
    needs=Facts.MODES,
    concerns=concerns,
    check=check,
    remedy="Train with track_running_stats=True or estimate the statistics on representative data, and export again; "
    "where batch statistics are intended, declare a waiver with its reason.",
)
