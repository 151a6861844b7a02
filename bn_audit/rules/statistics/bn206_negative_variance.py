"""A running variance is below zero.

What it checks: every value of running_var of every normalisation layer.
Why it matters: evaluation divides by sqrt(running_var + eps). Below -eps that is NaN for the whole channel, and just
    above it the output is blown up. It comes from averaging or extrapolating weights, from cancellation in
    E[x^2] - E[x]^2 and from broken conversions.
Example:
    import torch
    from torch import nn
    old, new = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
    new.running_var.fill_(0.4)
    with torch.no_grad():
        new.running_var.add_(new.running_var - old.running_var)  # extrapolated: 0.4 - 0.6 = -0.2: BN206
Remedy: take the statistics of one checkpoint instead of a weighted sum, or estimate them again on training data.
Limits: where mean and variance look swapped, BN215 reports that instead. Layers for complex numbers keep a covariance
    whose entries may be negative; they are read where they use the names of a batch norm.
Sources: torch.nn.BatchNorm2d, formula of the output; Chan, Golub and LeVeque 1983 on cancellation.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._figures import LISTED, readable
from bn_audit.rules._layers import counted, norm_counts
from bn_audit.rules._values import LayerValues, values_of
from bn_audit.rules.statistics._order import looks_swapped
from bn_audit.subject.finding import EvidenceValue, Finding, Severity
from bn_audit.subject.subject import Facts, Subject


def concerns(subject: Subject) -> bool:
    """Return whether any layer stores a variance."""
    return any(norm.running_var is not None for norm in subject.norms)


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model, with every layer concerned."""
    totals = norm_counts(subject)
    values = values_of(subject)
    negative: dict[str, list[LayerValues]] = {}
    for layer in values.layers:
        if layer.least_variance < 0.0 and not looks_swapped(layer):
            negative.setdefault(layer.norm.model, []).append(layer)
    for route, layers in negative.items():
        worst = min(layers, key=lambda layer: layer.least_variance)
        having = counted(len(layers), totals[route], ("has", "have"), route=route, noun="normalisation layer")
        yield RULE.finding(
            f"{having} negative running variances, down to {readable(worst.least_variance)} "
            f"(in {worst.norm.path or '(root)'})",
            locations=tuple(layer.variance_location for layer in layers),
            evidence={
                "layers": len(layers),
                "lowest": worst.least_variance,
                "per_layer": [_described(layer) for layer in layers[:LISTED]],
            },
        )
    values.raise_for_errors()


def _described(layer: LayerValues) -> EvidenceValue:
    negative = sum(1 for value in layer.columns["running_var"].values if value < 0.0)
    return {"path": layer.norm.path, "lowest": layer.least_variance, "negative_channels": negative}


RULE = Rule(
    code="BN206",
    name="negative-variance",
    summary="running_var below zero",
    severity=Severity.ERROR,
    needs=Facts.VALUES,
    concerns=concerns,
    check=check,
    remedy="Take the statistics of one checkpoint instead of a weighted sum, or estimate them again on training data.",
)
