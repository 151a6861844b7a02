"""Scales and shifts in a state dict that have no running statistics beside them.

A weight and a bias of equal length alone are nearly always a layer or group norm. What shows that statistics are
missing is a batch counter, the name, or a sibling: the same layer of another block that is built alike.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bn_audit.recognition.modules import BIAS_NAMES, STATISTIC_NAMES, WEIGHT_NAMES, first_of
from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import NormLayer
from bn_audit.subject.subject import OrphanTensors
from bn_audit.subject.tensor import TensorRef

Group = Mapping[str, TensorRef]
"""The tensors of one prefix by the last part of their names."""

_COUNTER = "num_batches_tracked"
_BATCH_NORM_NAME = re.compile(r"(?:^|[._])(?:\w*batch_?norm\w*|bn\d*|\w+_bn\d*|bn_\w+)$", re.IGNORECASE)
_OTHER_NORM_NAME = re.compile(r"(?:^|[._])(?:ln|gn|layer_?norm|group_?norm|rms_?norm)\w*$", re.IGNORECASE)
_INNER_DIGITS = re.compile(r"\d+(?=.*\.)")

_NORM_BASE_VERSION = 2
"""``_NormBase._version`` of torch.nn since 0.4.1: BatchNorm and InstanceNorm alike; most other modules have 1."""


def orphans_of(
    groups: Mapping[str, Group], *, model: str, norms: Sequence[NormLayer], versions: Mapping[str, int] | None
) -> tuple[OrphanTensors, ...]:
    """Return the scales without statistics, with evidence where there is any.

    A name alone is a weak proof where no layer of the model has statistics and no version is recorded: networks whose
    batch norms were replaced by group norms keep the names (torchvision's ``norm_layer``, opacus, timm's ``*_gn``).

    Args:
        groups: Every tensor by prefix and last part of the name, in the file's order.
        norms: The layers with statistics among them.
        versions: Module path to ``_version``, from the state dict's ``_metadata``; None where it has none.
    """
    known = {norm.path for norm in norms}
    orphans = []
    for path, group in groups.items():
        weight, bias = first_of(group, WEIGHT_NAMES), first_of(group, BIAS_NAMES)
        if (
            path in known
            or weight is None
            or len(weight.shape) != 1
            or (bias is not None and bias.shape != weight.shape)
        ):
            continue
        if versions is not None and versions.get(path, _NORM_BASE_VERSION) != _NORM_BASE_VERSION:
            continue  # recorded as another kind of module
        if not STATISTIC_NAMES.isdisjoint(group) and _COUNTER not in group:
            continue  # keeps something else than the pair of a batch norm
        orphans.append(OrphanTensors(model=model, path=path, weight=weight, bias=bias, evidence=None))
    siblings = _Siblings(norms, orphans, groups)
    is_recorded = versions is not None or bool(norms)
    return tuple(_judged(orphan, groups[orphan.path], siblings, is_recorded) for orphan in orphans)


def _judged(orphan: OrphanTensors, group: Group, siblings: _Siblings, is_recorded: bool) -> OrphanTensors:
    if _COUNTER in group:
        return replace(orphan, evidence="it has a batch counter")
    if _OTHER_NORM_NAME.search(orphan.path):
        return orphan
    if _BATCH_NORM_NAME.search(orphan.path):
        confidence = Confidence.HIGH if is_recorded else Confidence.MEDIUM
        return replace(orphan, evidence="its name is that of a batch norm", confidence=confidence)
    sibling = siblings.of(orphan)
    return replace(orphan, evidence=f"its sibling {sibling.path} has running statistics") if sibling else orphan


class _Siblings:
    """Layers of the same name in blocks that are built alike."""

    def __init__(
        self, norms: Sequence[NormLayer], orphans: Sequence[OrphanTensors], groups: Mapping[str, Group]
    ) -> None:
        self._counts = Counter(_pattern(orphan.path) for orphan in orphans)
        self._norms: dict[str, list[NormLayer]] = {}
        for norm in norms:
            if _pattern(norm.path) in self._counts:
                self._norms.setdefault(_pattern(norm.path), []).append(norm)
        related = [norm.path for group in self._norms.values() for norm in group]
        related += [orphan.path for orphan in orphans if _pattern(orphan.path) in self._norms]
        self._builds = _builds_of({_block(path) for path in related}, groups)

    def of(self, orphan: OrphanTensors) -> NormLayer | None:
        """Return a sibling that proves the orphan a batch norm.

        Hybrid networks give the same name to batch norms in convolutional blocks and to layer norms in others, so the
        sibling's block must hold the same tensors, and siblings with statistics must outnumber those without.
        """
        norms = self._norms.get(_pattern(orphan.path), [])
        if len(norms) <= self._counts[_pattern(orphan.path)]:
            return None
        build = self._builds[_block(orphan.path)]
        alike = (norm for norm in norms if self._builds[_block(norm.path)] == build)
        return next((norm for norm in alike if (norm.bias is None) == (orphan.bias is None)), None)


def _builds_of(blocks: Iterable[str], groups: Mapping[str, Group]) -> dict[str, frozenset[str]]:
    """Return, for each block, the names of its tensors relative to it, without statistics and counters."""
    builds: dict[str, set[str]] = {block: set() for block in blocks}
    if not builds:
        return {}
    for path, group in groups.items():
        names = {f"{path}.{leaf}" for leaf in group if leaf not in STATISTIC_NAMES and leaf != _COUNTER}
        block = path
        while block:
            block = _block(block)
            if block in builds:
                builds[block].update(name.removeprefix(f"{block}.") if block else name for name in names)
    return {block: frozenset(names) for block, names in builds.items()}


def _block(path: str) -> str:
    return path.rpartition(".")[0]


def _pattern(path: str) -> str:
    """Return the path with the digits of all but its last part taken out: repeated blocks compare equal.

    The last part keeps its digits, since ``net.1`` and ``net.2`` of a Sequential are different kinds of layer.
    """
    return _INNER_DIGITS.sub("*", path)
