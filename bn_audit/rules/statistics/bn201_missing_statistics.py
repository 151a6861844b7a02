"""Affine parameters are stored without the running mean and variance of their batch norm.

What it checks: in state dicts, a weight and bias with one value per channel and no running statistics beside them. It
    is an error where a batch counter, the name or sibling layers prove a batch norm, and a note where most
    convolutions are followed by such a pair.
Why it matters: loaded with strict=False the layer keeps mean 0 and variance 1, which belong to no data. It happens
    when weights are collected, averaged or synchronised through named_parameters(), which leaves out buffers.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    weights = {name: value.detach() for name, value in model.named_parameters()}
    torch.save(weights, "weights.pt")             # BN201: running_mean and running_var are not parameters
    torch.save(model.state_dict(), "weights.pt")  # silent
Remedy: save model.state_dict(), or average the buffers too; recompute lost statistics on training data.
Limits: layer, group and instance norms store the very same pair. Pairs that do not follow a convolution are silent,
    and so are all pairs of a model that names one of them so: a transformer gives no finding. Batch norms built
    with track_running_stats=False never had statistics; a waiver says so.
Sources: torch.nn.Module.named_parameters and named_buffers; huggingface/peft issue 3481.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bn_audit.interfaces import Rule
from bn_audit.rules._layers import several
from bn_audit.subject.finding import Confidence, Finding, Severity
from bn_audit.subject.subject import Model, OrphanTensors, Subject

OTHER_NORMALISER = re.compile(r"norm|ln|gn|rms|scale|affine", re.IGNORECASE)
"""Names that a layer norm, group norm or channel scale may have; a batch norm so named cannot be told from these."""

CONVOLUTION_RANK = 3
"""Fewest dimensions of a convolution's weight."""

SHARE_OF_CONVOLUTIONS = 0.5
"""Share of the convolutions that such pairs must follow before a note is worth it.

Networks of convolution, batch norm and activation reach nearly 1; a transformer with a patch embedding and ConvNeXt's
stem stay far below.
"""


def concerns(subject: Subject) -> bool:
    """Return whether there are affine parameters without statistics."""
    return bool(subject.orphans)


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one error and one note for each model."""
    by_model: dict[str, list[OrphanTensors]] = {}
    for orphan in subject.orphans:
        by_model.setdefault(orphan.model, []).append(orphan)
    for model in subject.models:
        orphans = by_model.get(model.route, [])
        proven = [orphan for orphan in orphans if orphan.evidence is not None]
        if proven:
            yield _error(model, proven)
        possible = _possible_batch_norms(model, [orphan for orphan in orphans if orphan.evidence is None])
        if possible:
            yield _note(model, possible)


def _error(model: Model, proven: Sequence[OrphanTensors]) -> Finding:
    causes = list(dict.fromkeys(orphan.evidence for orphan in proven))
    return RULE.finding(
        f"{several(len(proven), 'batch-norm layer', route=model.route)} without running_mean and running_var beside "
        f"{'its' if len(proven) == 1 else 'their'} affine parameters ({proven[0].path}: {causes[0]})",
        locations=tuple(orphan.location for orphan in proven),
        evidence={"layers": len(proven), "because": list(causes[:3])},
    )


def _note(model: Model, possible: Sequence[OrphanTensors]) -> Finding:
    return RULE.finding(
        f"{several(len(possible), 'pair', route=model.route)} of affine parameters without statistics right after a "
        "convolution: batch norm saved without its statistics, or instance, group or layer norm",
        locations=tuple(orphan.location for orphan in possible),
        evidence={"pairs": len(possible)},
        remedy="If these layers are batch norms, save model.state_dict() instead of the parameters alone; if they are "
        "another norm, nothing is wrong.",
        severity=Severity.NOTE,
        confidence=Confidence.LOW,
    )


def _possible_batch_norms(model: Model, orphans: Sequence[OrphanTensors]) -> list[OrphanTensors]:
    """Return the pairs that follow a convolution, if these are the rule in this model and no name tells otherwise."""
    if not orphans or any(OTHER_NORMALISER.search(_last(orphan.path)) for orphan in orphans):
        return []
    pairs = {orphan.path: orphan for orphan in orphans if orphan.bias is not None}
    following: list[OrphanTensors] = []
    convolutions = 0
    previous: tuple[int, ...] = ()
    for path, shape in _weights_in_order(model):
        orphan = pairs.get(path)
        if orphan is not None and len(previous) >= CONVOLUTION_RANK and shape[0] in previous[:2]:
            following.append(orphan)
        convolutions += len(shape) >= CONVOLUTION_RANK
        previous = shape
    return following if len(following) > SHARE_OF_CONVOLUTIONS * convolutions else []


def _weights_in_order(model: Model) -> Iterator[tuple[str, tuple[int, ...]]]:
    for tensor in model.tensors:
        path, _, name = tensor.name.rpartition(".")
        if name in ("weight", "gamma") and tensor.shape:
            yield path, tensor.shape


def _last(path: str) -> str:
    return path.rpartition(".")[2]


RULE = Rule(
    code="BN201",
    name="missing-statistics",
    summary="affine parameters of a batch norm without its running statistics",
    severity=Severity.ERROR,
    concerns=concerns,
    check=check,
    remedy="Save model.state_dict() rather than named_parameters(), or average the buffers too; recompute lost "
    "statistics on training data.",
)
