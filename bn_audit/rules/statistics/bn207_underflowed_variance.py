"""A running variance is zero or underflowed although its channel is alive.

What it checks: running variances that are zero or too small for their dtype (in float16 below 1e-6, where fewer than
    four binary digits are left), in channels whose scale is not close to zero and whose mean is not zero.
Why it matters: evaluation divides by sqrt(running_var + eps). With a variance of 0 the gain is 1 / sqrt(eps), about
    316 for eps = 1e-5, so a channel that varies at all in deployment is blown up.
Example:
    import torch
    from torch import nn
    layer = nn.BatchNorm2d(8)
    layer.running_mean.fill_(2e-4)
    layer.running_var.fill_(1e-9)  # small, and right for this input
    layer.half()                   # 1e-9 becomes 0 in float16: BN207
Remedy: keep the statistics in float32 (weights may be half), and estimate them again from the float32 checkpoint; for
    a channel that was constant in training, remove the channel.
Limits: dead channels are normal and silent: a scale below 1 % of the layer's largest, or mean and variance both zero
    in at most half of the layer's channels. A healthy variance stored in half precision is silent; one above 65504
    becomes infinite in float16 and is reported by BN205.
Sources: IEEE 754 binary16; pytorch/vision issue 2599.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._channels import live_channels
from bn_audit.rules._figures import LISTED
from bn_audit.rules._layers import batch_norm_counts, counted
from bn_audit.rules._values import SMALLEST_NORMAL, LayerValues, values_of
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.subject import Facts, Subject

SMALLEST_FLOAT16 = 2.0**-20
"""Below this a float16 is subnormal with fewer than four binary digits: off by 3 % and more.

Sixteen times the smallest subnormal, 2**-24. Between here and the smallest normal number, 2**-14, the rounding error
is small beside any usual eps.
"""

SHARE_OF_DEAD = 0.5
"""Share of a layer's channels that may have mean and variance zero; more than that is a layer that never ran."""


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model, with every layer concerned."""
    totals = batch_norm_counts(subject)
    values = values_of(subject)
    for route, layers in values.batch_norms_by_model().items():
        found = [(layer, channels) for layer in layers if (channels := underflowed_channels(layer))]
        if not found:
            continue
        number = sum(len(channels) for _, channels in found)
        dtypes = ", ".join(dict.fromkeys(layer.variance.dtype for layer, _ in found if layer.variance is not None))
        yield RULE.finding(
            f"{counted(len(found), totals[route], ('has', 'have'), route=route)} zero or underflowed variances "
            f"({dtypes}) in {number} live channel{'' if number == 1 else 's'}",
            locations=tuple(layer.variance_location for layer, _ in found),
            evidence={
                "layers": len(found),
                "channels": number,
                "per_layer": [
                    {"path": layer.norm.path, "channels": len(channels), "first_channels": list(channels[:LISTED])}
                    for layer, channels in found[:LISTED]
                ],
            },
        )
    values.raise_for_errors()


def underflowed_channels(layer: LayerValues) -> list[int]:
    """Return the channels with a scale and a mean but without a variance; all without one where too many have none."""
    if layer.variance is None:
        return []
    floor = SMALLEST_FLOAT16 if layer.variance.dtype == "float16" else SMALLEST_NORMAL
    if not layer.least_variance < floor or not layer.is_consistent:
        return []
    variances = layer.variance.values
    means = layer.mean.values if layer.mean is not None else None
    vanishing = [channel for channel in live_channels(layer) if 0.0 <= variances[channel] < floor]
    if means is None or len(vanishing) > SHARE_OF_DEAD * len(variances):
        return vanishing
    return [channel for channel in vanishing if abs(means[channel]) >= SMALLEST_NORMAL]


RULE = Rule(
    code="BN207",
    name="underflowed-variance",
    summary="variance zero or underflowed although the channel is alive",
    severity=Severity.WARNING,
    needs=Facts.VALUES,
    check=check,
    remedy="Keep the statistics in float32 and estimate them again from the float32 checkpoint; remove channels that "
    "were constant in training.",
)
