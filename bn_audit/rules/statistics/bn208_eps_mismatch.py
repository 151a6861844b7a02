"""The eps of a layer dominates its variances, was rounded by a conversion, or differs from the reference's.

What it checks: whether eps exceeds the running variance in most live channels of a layer, whether eps is 0 beside a
    variance of 0, and whether eps prints as a number rounded to float16 or bfloat16, such as 1.0013580322265625e-05.
    Beside a reference: whether both have the same eps.
Why it matters: eps is added to the variance under the root, so where it is the larger one it decides the output. It is
    no tensor, so no checkpoint carries it, and a reimplementation with another default (1e-3 in TensorFlow, 1e-5 in
    torch) changes exactly these channels.
Example:
    import torch
    from torch import nn
    layer = nn.BatchNorm2d(8, eps=1e-3)
    layer.running_mean.fill_(0.01)
    layer.running_var.fill_(1e-5)                           # BN208: eps is 100 times the variance
    cast = nn.BatchNorm2d(8, eps=torch.tensor(1e-5).half().item())  # BN208: eps was float16
Remedy: build the layer with the eps it was trained with; scale the input where its variance is that small.
Limits: a layer may have been trained with a dominating eps, which is harmless as long as eps stays the same. Dead
    channels are not counted: a scale below 1 % of the layer's largest, or a variance of 0. Powers of two are taken as
    chosen. Whether eps equals that of the training code cannot be seen in one file; beside a reference, numbers count
    as equal within 1e-6, for many formats keep eps in float32. An eps that a fold took up is BN313's.
Sources: torch.nn.BatchNorm2d, formula of the output; apple/coremltools issue 2276; pytorch/vision issue 2933.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._channels import live_channels
from bn_audit.rules._drift import by_model, drifts_of
from bn_audit.rules._figures import distinct, readable
from bn_audit.rules._layers import batch_norm_counts, counted
from bn_audit.rules._values import SMALLEST_NORMAL, LayerValues, values_of
from bn_audit.subject.finding import Confidence, Finding, Severity
from bn_audit.subject.norm import NormLayer
from bn_audit.subject.subject import Facts, Subject

SHARE_OF_LIVE = 0.5
"""Share of a layer's live channels whose variance must be below eps.

Networks trained with eps = 1e-3 have such channels here and there; in most channels of a layer it is seldom meant.
"""


def concerns(subject: Subject) -> bool:
    """Return whether any batch norm stores a variance that eps is added to."""
    return any(norm.running_var is not None for norm in subject.batch_norms)


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model and cause: rounded, zero or dominating."""
    totals = batch_norm_counts(subject)
    yield from _differing(subject)
    values = values_of(subject)
    for route, layers in values.batch_norms_by_model().items():
        yield from _rounded(route, totals[route], [layer.norm for layer in layers])
        yield from _zero(route, totals[route], layers)
        yield from _dominating(route, totals[route], layers)
    values.raise_for_errors()


def _differing(subject: Subject) -> Iterator[Finding]:
    for route, drifts in by_model(drifts_of(subject)).items():
        found = [drift for drift in drifts if drift.eps.differs]
        if found and subject.comparison is not None:
            first = found[0]
            yield RULE.finding(
                f"{counted(len(found), len(drifts), ('has', 'have'), route=route)} another eps than "
                f"{subject.comparison.reference} ({first.location.path or '(root)'}: {first.eps.target!r}, the "
                f"reference has {first.eps.reference!r}; tolerance {first.eps.tolerance:g})",
                locations=tuple(drift.location for drift in found),
                evidence={"layers": len(found), "eps": first.eps.target, "reference_eps": first.eps.reference},
                severity=Severity.ERROR,
                remedy="Build the layer with the eps of the reference: the running variances belong to it.",
            )


def _rounded(route: str, total: int, norms: list[NormLayer]) -> Iterator[Finding]:
    cast = [(norm, source) for norm in norms if norm.eps is not None and (source := rounded_from(norm.eps))]
    if cast:
        printed = distinct(norm.eps for norm, _ in cast if norm.eps is not None)
        yield RULE.finding(
            f"{counted(len(cast), total, ('has', 'have'), route=route)} eps {printed}, which is {cast[0][1]}",
            locations=tuple(norm.location for norm, _ in cast),
            evidence={"layers": len(cast), "eps": cast[0][0].eps, "looks_like": cast[0][1]},
            remedy="Write eps as a Python number or in float64 when converting; the trained value was a decimal.",
        )


def _zero(route: str, total: int, layers: list[LayerValues]) -> Iterator[Finding]:
    found = [layer for layer in layers if layer.norm.eps == 0.0 and layer.least_variance == 0.0]
    if found:
        yield RULE.finding(
            f"{counted(len(found), total, ('has', 'have'), route=route)} eps 0 beside variances of 0: the division "
            "gives NaN or infinity",
            locations=tuple(layer.norm.location for layer in found),
            evidence={"layers": len(found), "eps": 0.0},
        )


def _dominating(route: str, total: int, layers: list[LayerValues]) -> Iterator[Finding]:
    found = [layer for layer in layers if _is_dominated(layer)]
    if found:
        largest = max(layer.norm.eps or 0.0 for layer in found)
        smallest = min(layer.least_variance for layer in found)
        yield RULE.finding(
            f"{counted(len(found), total, ('has', 'have'), route=route)} an eps above the variance of most live "
            f"channels: eps up to {readable(largest)}, variances down to {readable(smallest)}",
            locations=tuple(layer.norm.location for layer in found),
            evidence={"layers": len(found), "largest_eps": largest, "smallest_variance": smallest},
            confidence=Confidence.MEDIUM,
        )


def _is_dominated(layer: LayerValues) -> bool:
    eps, variance = layer.norm.eps, layer.variance
    if eps is None or variance is None or not layer.least_variance < eps or not layer.is_consistent:
        return False
    live = [variance.values[channel] for channel in live_channels(layer)]
    alive = [value for value in live if value >= SMALLEST_NORMAL]
    below = sum(1 for value in alive if value < eps)
    return below > SHARE_OF_LIVE * len(alive)


def rounded_from(eps: float) -> str | None:
    """Return which rounding of which short decimal `eps` is; None where it is a number that someone may have typed.

    A short decimal has at most two significant digits, as every usual eps. float32 is not counted: frameworks keep
    eps in it and its rounding is harmless.
    """
    if not 0.0 < eps < 1.0 or math.frexp(eps)[0] == 0.5:
        return None
    for digits in (1, 2):
        decimal = float(f"{eps:.{digits - 1}e}")
        if eps == decimal or struct.unpack("<f", struct.pack("<f", decimal))[0] == eps:
            return None
        for name, nearest in (("float16", _as_float16(decimal)), ("bfloat16", _as_bfloat16(decimal))):
            if nearest == eps:
                return f"{decimal:g} rounded to {name}"
    return None


def _as_float16(number: float) -> float:
    return float(struct.unpack("<e", struct.pack("<e", number))[0])


def _as_bfloat16(number: float) -> float:
    bits = int.from_bytes(struct.pack("<f", number), "little")
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return float(struct.unpack("<f", rounded.to_bytes(4, "little"))[0])


RULE = Rule(
    code="BN208",
    name="eps-mismatch",
    summary="eps dominates the variance of live channels, was cast, or differs from the reference",
    severity=Severity.WARNING,
    needs=Facts.SETTINGS | Facts.VALUES,
    concerns=concerns,
    check=check,
    remedy="Build the layer with the eps it was trained with; scale the input where its variance is that small.",
    compares=True,
)
