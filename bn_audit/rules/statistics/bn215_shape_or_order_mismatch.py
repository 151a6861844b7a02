"""The tensors of a normalisation layer disagree in length, or mean and variance look swapped.

What it checks: whether weight, bias, running_mean and running_var have one length, and whether it is num_features;
    whether one of the two statistics is missing; whether the variance is negative in many channels while the mean is
    negative in none. Beside a reference: whether the mean is the reference's variance and the other way round.
Why it matters: different lengths fail at load time or at the first call, often only on the device that deploys. A
    swapped mean and variance loads without a word and gives wrong answers.
Example:
    import torch
    from torch import nn
    layer = nn.BatchNorm2d(8)
    layer.running_mean = layer.running_mean[:6]  # pruned in one place only: BN215
    mean, variance = torch.randn(8), torch.rand(8)
    other = nn.BatchNorm2d(8)
    other.running_mean.copy_(variance)
    other.running_var.copy_(mean)                # BN215: the blobs were read in the wrong order
Remedy: prune all tensors of a layer together with num_features; check the order of the blobs in the conversion (weight,
    bias, mean, variance).
Limits: without a reference, whether mean and variance are swapped is a guess from their signs, with medium confidence.
    A num_features that alone disagrees does no harm in a batch norm until a state dict is loaded: a warning. Statistics
    whose length is a multiple of the scale's belong to a ghost batch norm, and a shorter mean and shift to an
    equivariant one: silent in classes other than torch's, a warning in a state dict; so are other lengths in such a
    class. A single scale for all channels is left alone in classes that are batch norms of their own kind.
Sources: torch.nn.functional.batch_norm, which checks the lengths at run time; nerox8664/pytorch2keras
    issue 120.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._drift import drifts_of
from bn_audit.rules._figures import LISTED
from bn_audit.rules._layers import ONNX_ORIGINS, counted, has_norms, norm_counts, several
from bn_audit.rules._values import values_of
from bn_audit.rules.statistics._order import looks_swapped
from bn_audit.subject.finding import Confidence, EvidenceValue, Finding, Location, Severity
from bn_audit.subject.norm import ModeOrigin, NormKind, NormLayer
from bn_audit.subject.subject import Facts, Subject

TORCH_LAYERS = "torch.nn.modules.batchnorm."
"""Classes of torch itself: their forward pass requires both statistics or neither."""


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model and cause: lengths, doubtful lengths, swapped statistics."""
    totals = norm_counts(subject)
    for judge, severity, confidence in (
        (_length_problem, Severity.ERROR, Confidence.HIGH),
        (_length_doubt, Severity.WARNING, Confidence.MEDIUM),
    ):
        disagreeing: dict[str, list[tuple[NormLayer, str]]] = {}
        for norm in subject.norms:
            problem = None if norm.uninitialised else judge(norm)
            if problem is not None:
                disagreeing.setdefault(norm.model, []).append((norm, problem))
        for route, found in disagreeing.items():
            yield _finding(found, totals[route], route, severity, confidence)
    exchanged = [drift.location for drift in drifts_of(subject) if drift.swapped]
    if exchanged and subject.comparison is not None:
        yield RULE.finding(
            f"{several(len(exchanged), 'batch-norm layer')} {'has' if len(exchanged) == 1 else 'have'} the variance of "
            f"{subject.comparison.reference} as mean and its mean as variance",
            locations=tuple(exchanged),
            evidence={"layers": len(exchanged)},
        )
    if Facts.VALUES in subject.facts:
        yield from _swapped(subject, frozenset(exchanged))


def _finding(
    found: list[tuple[NormLayer, str]], total: int, route: str, severity: Severity, confidence: Confidence
) -> Finding:
    first, problem = found[0]
    having = counted(len(found), total, ("has", "have"), route=route, noun="normalisation layer")
    return RULE.finding(
        f"{having} tensors that do not fit each other ({first.path or '(root)'}: {problem})",
        locations=tuple(norm.location for norm, _ in found),
        evidence={"layers": len(found), "per_layer": [_described(norm, text) for norm, text in found[:LISTED]]},
        severity=severity,
        confidence=confidence,
    )


def _length_problem(norm: NormLayer) -> str | None:
    """Return what disagrees; None where all tensors have one length, and for classes with lengths of their own."""
    lengths = _lengths(norm)
    if len(set(lengths.values())) > 1:
        return None if _is_own_kind(norm) or (not norm.type_name and _has_pattern(lengths)) else _listed(lengths)
    is_module = norm.type_name.startswith(TORCH_LAYERS) and norm.mode_origin not in ONNX_ORIGINS
    if is_module and (norm.running_mean is None) != (norm.running_var is None):
        stored, lacking = (
            ("running_var", "running_mean") if norm.running_mean is None else ("running_mean", "running_var")
        )
        return f"{stored} without {lacking}"
    return _stated(norm, lengths) if norm.kind is NormKind.INSTANCE_NORM else None


def _length_doubt(norm: NormLayer) -> str | None:
    """Return what disagrees without harm to the forward pass, or only if the layer is of the usual kind."""
    lengths = _lengths(norm)
    if len(set(lengths.values())) > 1:
        is_doubtful = not _has_pattern(lengths) if _is_own_kind(norm) else not norm.type_name and _has_pattern(lengths)
        return f"{_listed(lengths)}: right only for a batch norm of its own kind" if is_doubtful else None
    return _stated(norm, lengths) if norm.kind is not NormKind.INSTANCE_NORM else None


def _stated(norm: NormLayer, lengths: dict[str, int]) -> str | None:
    """Return how num_features disagrees; the forward pass of an instance norm compares it, a batch norm's does not."""
    length = next(iter(lengths.values()), None)
    if length is None or norm.num_features is None or length == norm.num_features:
        return None
    return f"num_features {norm.num_features}, tensors {length}"


def _lengths(norm: NormLayer) -> dict[str, int]:
    return {
        role: tensor.numel
        for role, tensor in norm.tensors.items()
        if role != "num_batches_tracked" and not (tensor.numel == 1 and norm.confidence is not Confidence.HIGH)
    }


def _listed(lengths: dict[str, int]) -> str:
    return ", ".join(f"{role} {length}" for role, length in lengths.items())


def _is_own_kind(norm: NormLayer) -> bool:
    """Return whether a class other than torch's says in its own code which lengths fit."""
    return (
        norm.mode_origin in (ModeOrigin.MODULE_FLAG, ModeOrigin.SCRIPTED_FLAG)
        and norm.type_name != ""
        and not norm.type_name.startswith(TORCH_LAYERS)
    )


def _has_pattern(lengths: dict[str, int]) -> bool:
    """Return whether these are lengths that a known kind of batch norm has.

    Ghost batch norms keep the statistics of several splits in a row (cifar10-fast, lightly's SplitBatchNorm).
    Equivariant ones (e3nn) have a mean and a shift for the scalars alone.
    """
    mean, variance = lengths.get("running_mean", 0), lengths.get("running_var", 0)
    weight, bias = lengths.get("weight", 0), lengths.get("bias", 0)
    if weight == bias:
        return mean == variance > weight > 0 and mean % weight == 0
    return variance == weight > mean and bias in (mean, 0)


def _described(norm: NormLayer, problem: str) -> EvidenceValue:
    return {"path": norm.path, "problem": problem}


def _swapped(subject: Subject, known: frozenset[Location]) -> Iterator[Finding]:
    values = values_of(subject)
    for route, layers in values.batch_norms_by_model().items():
        found = [layer.norm for layer in layers if layer.norm.location not in known and looks_swapped(layer)]
        if found:
            yield RULE.finding(
                f"{counted(len(found), len(layers), ('has', 'have'), route=route)} a variance with many negative "
                "values beside a mean with none: they look swapped",
                locations=tuple(norm.location for norm in found),
                evidence={"layers": len(found)},
                confidence=Confidence.MEDIUM,
            )
    values.raise_for_errors()


RULE = Rule(
    code="BN215",
    name="shape-or-order-mismatch",
    summary="tensor lengths disagree, or mean and variance look swapped",
    severity=Severity.ERROR,
    concerns=has_norms,
    supersedes=("BN212", "BN224"),
    check=check,
    remedy="Prune all tensors of a layer together with num_features; check the order of the tensors in the conversion.",
    compares=True,
)
