"""Statistics or affine parameters of a normalisation layer hold NaN or infinity.

What it checks: every value of running_mean, running_var, weight and bias of every normalisation layer.
Why it matters: in evaluation mode a single such value makes its whole channel NaN or constant, and the following
    layers with it. Training does not show it: there the statistics of the batch are used, so the loss stays normal.
    The usual cause is an overflow under mixed precision that reached the running statistics once.
Example:
    import torch
    from torch import nn
    layer = nn.BatchNorm2d(8)
    layer(torch.full((2, 8, 4, 4), float("inf")))  # one bad batch: BN205 from now on
Remedy: go back to a checkpoint before the overflow, or reset the statistics (layer.reset_running_stats()) and estimate
    them again on training data in float32.
Limits: none known; there is no legitimate use of these values.
Sources: IEEE 754; pytorch/pytorch issues 88474 and 90342.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._figures import LISTED
from bn_audit.rules._layers import counted, has_norms, norm_counts
from bn_audit.rules._values import LayerValues, values_of
from bn_audit.subject.finding import EvidenceValue, Finding, Location, Severity
from bn_audit.subject.subject import Facts, Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model, with every tensor concerned."""
    totals = norm_counts(subject)
    values = values_of(subject)
    broken: dict[str, list[LayerValues]] = {}
    for layer in values.layers:
        if not all(column.finite for column in layer.columns.values()):
            broken.setdefault(layer.norm.model, []).append(layer)
    for route, layers in broken.items():
        tensors = [(layer, role) for layer in layers for role, column in layer.columns.items() if not column.finite]
        roles = ", ".join(dict.fromkeys(role for _, role in tensors))
        yield RULE.finding(
            f"{counted(len(layers), totals[route], ('holds', 'hold'), route=route, noun='normalisation layer')} NaN or "
            f"infinity in {roles}",
            locations=tuple(_location(layer, role) for layer, role in tensors),
            evidence={
                "layers": len(layers),
                "tensors": [_counts(layer, role) for layer, role in tensors[:LISTED]],
            },
        )
    values.raise_for_errors()


def _location(layer: LayerValues, role: str) -> Location:
    return Location(model=layer.norm.model, path=layer.norm.path, tensor=role, node=layer.norm.node)


def _counts(layer: LayerValues, role: str) -> EvidenceValue:
    numbers = layer.columns[role].values
    channels = [channel for channel, number in enumerate(numbers) if not math.isfinite(number)]
    nans = sum(1 for channel in channels if math.isnan(numbers[channel]))
    return {
        "path": layer.norm.path,
        "tensor": role,
        "nan": nans,
        "infinite": len(channels) - nans,
        "elements": len(numbers),
        "first_channels": list(channels[:LISTED]),
    }


RULE = Rule(
    code="BN205",
    name="non-finite-statistics",
    summary="NaN or infinity in statistics or affine parameters",
    severity=Severity.ERROR,
    needs=Facts.VALUES,
    concerns=has_norms,
    check=check,
    remedy="Go back to a checkpoint before the overflow, or reset the statistics and estimate them again on training "
    "data in float32.",
)
