"""An ONNX batch norm in inference form normalises with placeholders instead of statistics.

What it checks: BatchNormalization nodes in inference form whose mean is exactly 0 and variance exactly 1 in every
    channel, or whose mean and variance are no vectors although they hold one value per channel.
Why it matters: converters fill in these values where they find no statistics, and so does whoever turns a node in
    training form into one for inference to please a runtime. The node then only scales and shifts. Statistics of
    another rank are refused by some runtimes and broadcast by others.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval()  # never trained
    torch.onnx.export(model, (torch.randn(2, 3, 8, 8),), "model.onnx", dynamo=False, do_constant_folding=False)  # BN305
Remedy: export again from the model with its trained statistics, or estimate them on representative data.
Limits: an untrained model and a converter that writes scale layers as batch norm look the same, so confidence is
    medium. The variance 1 - eps of FrozenBatchNorm is silent. Where weights or other layers show training, BN204
    reports the layer instead; where lengths disagree, BN215 does. Folded batch norms are gone from the file.
Sources: ONNX operator specification, BatchNormalization; microsoft/onnxruntime issue 26584; microsoft/onnxscript
    issue 1791.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._figures import LISTED
from bn_audit.rules._layers import ONNX_ORIGINS, batch_norm_counts, counted
from bn_audit.rules._values import LayerValues, values_of
from bn_audit.subject.finding import Confidence, EvidenceValue, Finding, Severity
from bn_audit.subject.norm import InputOrigin, Mode, NormLayer
from bn_audit.subject.subject import Facts, Subject


def concerns(subject: Subject) -> bool:
    """Return whether an ONNX node uses stored statistics."""
    return any(map(_uses_stored_statistics, subject.batch_norms))


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model and cause: initial values, another rank."""
    totals = batch_norm_counts(subject)
    values = values_of(subject)
    for route, layers in values.batch_norms_by_model().items():
        judged = [layer for layer in layers if _uses_stored_statistics(layer.norm) and layer.is_consistent]
        initial = [layer for layer in judged if layer.has_initial_statistics]
        misshapen = [layer.norm for layer in judged if _odd_shapes(layer.norm)]
        if initial:
            yield _initial(route, totals[route], initial)
        if misshapen:
            yield _misshapen(route, totals[route], misshapen)
    values.raise_for_errors()


def _uses_stored_statistics(norm: NormLayer) -> bool:
    return (
        norm.kind.is_batch_norm
        and norm.mode_origin in ONNX_ORIGINS
        and norm.mode is Mode.EVAL
        and norm.uses_batch_statistics is not True
        and norm.has_running_statistics
        and norm.input_origin is not InputOrigin.PARAMETERS
    )


def _initial(route: str, total: int, layers: list[LayerValues]) -> Finding:
    nodes = counted(len(layers), total, ("normalises", "normalise"), route=route, noun="batch-norm node")
    return RULE.finding(
        f"{nodes} with mean 0 and variance 1 in every channel, which come from no data",
        locations=tuple(layer.norm.location for layer in layers),
        evidence={"initial": len(layers), "batch_norms": total},
        confidence=Confidence.MEDIUM,
    )


def _misshapen(route: str, total: int, norms: list[NormLayer]) -> Finding:
    shapes = "; ".join(f"{role} {shape}" for role, shape in _odd_shapes(norms[0]).items())
    return RULE.finding(
        f"{counted(len(norms), total, ('has', 'have'), route=route, noun='batch-norm node')} statistics that are no "
        f"vectors ({norms[0].path or norms[0].node or '(root)'}: {shapes})",
        locations=tuple(norm.location for norm in norms),
        evidence={"layers": len(norms), "per_layer": [_described(norm) for norm in norms[:LISTED]]},
        remedy="Store mean and variance as vectors with one value for each channel.",
    )


def _odd_shapes(norm: NormLayer) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the statistics that are no vectors."""
    statistics = {"running_mean": norm.running_mean, "running_var": norm.running_var}
    return {role: tensor.shape for role, tensor in statistics.items() if tensor is not None and len(tensor.shape) != 1}


def _described(norm: NormLayer) -> EvidenceValue:
    shapes: dict[str, EvidenceValue] = {role: list(shape) for role, shape in _odd_shapes(norm).items()}
    return {"path": norm.path, "shapes": shapes}


RULE = Rule(
    code="BN305",
    name="placeholder-statistics",
    summary="ONNX batch norm in inference form over mean 0 and variance 1, or statistics of another rank",
    severity=Severity.WARNING,
    needs=Facts.MODES | Facts.VALUES,
    concerns=concerns,
    check=check,
    remedy="Export again from the model with its trained statistics, or estimate them on representative data.",
)
