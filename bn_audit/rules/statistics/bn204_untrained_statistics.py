"""Running statistics still have their initial values beside trained weights.

What it checks: batch norms whose mean is exactly 0 and variance exactly 1 in every channel, although the layer's own
    bias or batch counter, or the other batch norms of the model, show that training took place.
Why it matters: in evaluation mode such a layer normalises with numbers that belong to no data, so it does nothing but
    scale and shift. It happens when the layer never saw a training batch, when the updates were thrown away, or when
    batch norms were replaced after loading.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    model.train()(torch.randn(4, 3, 8, 8))  # training moves the statistics
    model.append(nn.BatchNorm2d(8))         # BN204: this layer never saw a batch
Remedy: run the training data through the model in training mode, or load the checkpoint after the last change to the
    layers.
Limits: a model in which nothing is trained (all statistics initial, no batch counted, every bias 0) is silent, also
    where its scales were drawn at random or every tensor holds one number for all channels, as in test graphs.
    FrozenBatchNorm and the variance 1 - eps of its Caffe2 weights are silent, and so is an average of a model in the
    same file (BN210). Statistics folded into the affine parameters look the same. Confidence is medium where only
    other layers show training, as for a fresh head.
Sources: torch/nn/modules/batchnorm.py, reset_running_stats; cleinc/bts issue 90.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._layers import batch_norm_counts, counted
from bn_audit.rules._values import Column, LayerValues, values_of
from bn_audit.rules.statistics._averages import live_twins
from bn_audit.subject.finding import Confidence, Finding, Severity
from bn_audit.subject.subject import Facts, Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model with initial statistics beside trained weights."""
    totals = batch_norm_counts(subject)
    values = values_of(subject)
    twins = live_twins(subject)
    for route, norms in values.batch_norms_by_model().items():
        layers = [layer for layer in norms if layer.mean is not None and layer.variance is not None]
        initial = [layer for layer in layers if layer.has_initial_statistics]
        if not initial or route in twins:  # BN210 compares an average with its live model
            continue
        trained = [layer for layer in initial if _is_trained(layer)]
        if trained or any(map(_has_learned_statistics, layers)):
            yield _finding(route, totals[route], initial=initial, trained=trained)
    values.raise_for_errors()


def _is_trained(layer: LayerValues) -> bool:
    """Return whether the layer itself shows training: nearly every initialisation sets the bias to 0."""
    if layer.counter is not None and layer.counter > 0:
        return True
    if layer.bias is not None:
        return _is_learned(layer.bias, initial=0.0)
    return layer.weight is not None and not layer.weight.is_uniform


def _has_learned_statistics(layer: LayerValues) -> bool:
    """Return whether the statistics come from data."""
    mean, variance = layer.mean, layer.variance
    if mean is None or variance is None:
        return False
    return _is_learned(mean, initial=0.0) or _is_learned(variance, initial=1.0)


def _is_learned(column: Column, *, initial: float) -> bool:
    """Return whether training wrote these values: one number for all of several channels is somebody's choice."""
    if len(column.values) == 1:
        return column.values[0] != initial
    return not column.is_uniform


def _finding(route: str, total: int, *, initial: list[LayerValues], trained: list[LayerValues]) -> Finding:
    beside = "their own trained parameters" if trained else "other layers that are trained"
    return RULE.finding(
        f"{counted(len(initial), total, ('has', 'have'), route=route)} the initial statistics mean 0 and "
        f"variance 1 beside {beside}",
        locations=tuple(layer.norm.location for layer in initial),
        evidence={
            "initial": len(initial),
            "batch_norms": total,
            "with_trained_parameters": len(trained),
            "never_counted_a_batch": sum(1 for layer in initial if layer.counter == 0),
        },
        confidence=Confidence.HIGH if trained else Confidence.MEDIUM,
    )


RULE = Rule(
    code="BN204",
    name="untrained-statistics",
    summary="mean 0 and variance 1 beside trained weights",
    severity=Severity.WARNING,
    supersedes=("BN305",),
    needs=Facts.VALUES,
    check=check,
    remedy="Run the training data through the model in training mode, or load the checkpoint after the last change to "
    "the layers.",
)
