"""Affine parameters are stored without the running mean and variance of their batch norm.

What it checks: in state dicts, a weight and bias with one value per channel and no running statistics beside them. It
    is an error where a batch counter, sibling layers, a reference or the name prove a batch norm (with medium
    confidence where names are all there is), and a note where most convolutions are followed by such a pair, or where
    another model of the file holds the statistics (parameters beside buffers, an average, gradients).
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
Limits: layer, group and instance norms store the very same pair, and where group norms replaced the batch norms of a
    network they keep the names: names prove it where other layers have statistics, or the file records the version of
    each module. Pairs that do not follow a convolution are silent, and so are all pairs of a model that names one of
    them so: a transformer gives no finding. Batch norms built with track_running_stats=False never had statistics.
Sources: torch.nn.Module.named_parameters and named_buffers; huggingface/peft issue 3481.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bn_audit.interfaces import Rule
from bn_audit.rules._layers import several
from bn_audit.rules.statistics._averages import unwrapped
from bn_audit.subject.finding import Confidence, EvidenceValue, Finding, Location, Severity
from bn_audit.subject.subject import Model, OrphanTensors, Subject

if TYPE_CHECKING:
    from bn_audit.subject.comparison import Comparison

OTHER_NORMALISER = re.compile(r"norm|ln|gn|rms|scale|affine", re.IGNORECASE)
"""Names that a layer norm, group norm or channel scale may have; a batch norm so named cannot be told from these."""

CONVOLUTION_RANK = 3
"""Fewest dimensions of a convolution's weight."""

SHARE_OF_CONVOLUTIONS = 0.5
"""Share of the convolutions that such pairs must follow before a note is worth it.

Networks of convolution, batch norm and activation reach nearly 1; a transformer with a patch embedding and ConvNeXt's
stem stay far below.
"""


MOST_HOLDERS = 8
"""Models looked at for the statistics of one layer: a file may hold thousands of models alike."""


def concerns(subject: Subject) -> bool:
    """Return whether there are affine parameters without statistics, or a reference that may show some."""
    return bool(subject.orphans) or subject.comparison is not None


def check(subject: Subject) -> Iterator[Finding]:
    """Yield for each model at most an error, one by names alone, a note on another model's, a note on a guess."""
    by_model: dict[str, list[OrphanTensors]] = {}
    for orphan in subject.orphans:
        by_model.setdefault(orphan.model, []).append(orphan)
    holders = _holders(subject) if by_model else {}
    bare = dict(_bare_layers(subject.comparison)) if subject.comparison is not None else {}
    for route in dict.fromkeys(route for route, _path in bare):
        paths = [path for known, path in bare if known == route]
        yield _error_beside_reference(route, paths, subject.comparison)
    for model in subject.models:
        orphans = [orphan for orphan in by_model.get(model.route, []) if (model.route, orphan.path) not in bare]
        whole = _model_with_statistics(model, orphans, holders)
        if whole is not None:
            yield _companion(model, whole, [orphan for orphan in orphans if orphan.evidence is not None])
            continue
        proven = [orphan for orphan in orphans if orphan.evidence is not None]
        certain = [orphan for orphan in proven if orphan.confidence is Confidence.HIGH or _place(orphan) in holders]
        known = {orphan.path for orphan in certain}
        named = [orphan for orphan in proven if orphan.path not in known]
        if certain:
            yield _error(model, certain)
        if named:
            yield _by_name(model, named)
        possible = _possible_batch_norms(model, [orphan for orphan in orphans if orphan.evidence is None])
        if possible:
            yield _note(model, possible)


def _bare_layers(comparison: Comparison) -> Iterator[tuple[tuple[str, str], None]]:
    """Yield the (route, path) of layers that have affine parameters and lack the statistics of the reference."""
    statistics = {
        ref.name
        for pair in comparison.pairs
        if pair.reference is not None and pair.reference.kind.is_batch_norm
        for ref in (pair.reference.running_mean, pair.reference.running_var)
        if ref is not None
    }
    for alignment in comparison.keys:
        lacking = {name.rpartition(".")[0] for name in alignment.missing if name in statistics}
        for match in alignment.matched:
            path, _, leaf = match.reference.rpartition(".")
            if path in lacking and leaf in ("weight", "gamma"):
                yield (alignment.target_route, match.target.rpartition(".")[0]), None


def _error_beside_reference(route: str, paths: Sequence[str], comparison: Comparison | None) -> Finding:
    reference = comparison.reference if comparison is not None else ""
    return RULE.finding(
        f"{several(len(paths), 'batch-norm layer', route=route)} without running_mean and running_var beside "
        f"{'its' if len(paths) == 1 else 'their'} affine parameters ({paths[0]}: {reference} has them)",
        locations=tuple(Location(model=route, path=path) for path in paths),
        evidence={"layers": len(paths), "because": ["the reference has them"]},
    )


Holders = dict[tuple[str, int | None], list[Model]]
"""The first models that hold statistics at a path (without wrappers) for so many channels."""


def _holders(subject: Subject) -> Holders:
    models = {model.route: model for model in subject.models}
    holders: Holders = {}
    for norm in subject.norms:
        if norm.has_running_statistics:
            found = holders.setdefault((unwrapped(norm.path), norm.num_features), [])
            if len(found) < MOST_HOLDERS:
                found.append(models[norm.model])
    return holders


def _model_with_statistics(model: Model, orphans: Sequence[OrphanTensors], holders: Holders) -> Model | None:
    """Return another model of the file that holds the statistics of all proven layers; None where there is none.

    The average of a model, its gradients, or its parameters apart from its buffers are no model of their own. But a
    model that lacks what its own average holds was saved wrongly.
    """
    held_by = [holders.get(_place(orphan), ()) for orphan in orphans if orphan.evidence is not None]
    for other in held_by[0] if held_by else ():
        is_whole = model.averaged or not other.averaged
        if is_whole and other.route != model.route and all(other in found for found in held_by):
            return other
    return None


def _place(orphan: OrphanTensors) -> tuple[str, int | None]:
    return unwrapped(orphan.path), orphan.weight.numel


def _companion(model: Model, whole: Model, proven: Sequence[OrphanTensors]) -> Finding:
    place = f"'{whole.route}'" if whole.route else "the model at the top"
    return RULE.finding(
        f"{several(len(proven), 'batch-norm layer', route=model.route)} without statistics of "
        f"{'its' if len(proven) == 1 else 'their'} own: only {place} holds them",
        locations=tuple(orphan.location for orphan in proven),
        evidence={"layers": len(proven), "statistics_in": whole.route},
        remedy="Nothing is wrong with parameters stored apart from their buffers, or with gradients; an average should "
        "average the buffers too, or have its statistics computed anew.",
        severity=Severity.NOTE,
        confidence=Confidence.MEDIUM,
    )


def _error(model: Model, proven: Sequence[OrphanTensors]) -> Finding:
    return RULE.finding(
        f"{_lacking(model, proven)} ({_first_cause(proven)})",
        locations=tuple(orphan.location for orphan in proven),
        evidence={"layers": len(proven), "because": _causes(proven)},
    )


def _by_name(model: Model, named: Sequence[OrphanTensors]) -> Finding:
    return RULE.finding(
        f"{_lacking(model, named)} ({_first_cause(named)}, and none in the file has statistics): lost, or group norms "
        "that took over the names",
        locations=tuple(orphan.location for orphan in named),
        evidence={"layers": len(named), "because": _causes(named)},
        remedy="If these layers are batch norms, save model.state_dict() instead of the parameters alone; if they were "
        "replaced by another norm, nothing is wrong.",
        confidence=Confidence.MEDIUM,
    )


def _lacking(model: Model, orphans: Sequence[OrphanTensors]) -> str:
    return (
        f"{several(len(orphans), 'batch-norm layer', route=model.route)} without running_mean and running_var beside "
        f"{'its' if len(orphans) == 1 else 'their'} affine parameters"
    )


def _first_cause(orphans: Sequence[OrphanTensors]) -> str:
    return f"{orphans[0].path}: {orphans[0].evidence}"


def _causes(orphans: Sequence[OrphanTensors]) -> list[EvidenceValue]:
    causes: dict[EvidenceValue, None] = {orphan.evidence: None for orphan in orphans}
    return list(causes)[:3]


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
    compares=True,
)
