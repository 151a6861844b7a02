"""Normalisation layers in a state dict, where only names and shapes tell.

A batch norm is a group of keys with one prefix that holds a running mean and a running variance of equal length and,
if it has affine parameters, these of the same length. Everything else that keeps running statistics fails on one of
these (a two-dimensional weight beside them, a mean without a variance, an observation counter).

A weight and a bias of equal length alone are nearly always a layer or group norm; they are listed as orphans, with
evidence where a name or a sibling shows that statistics are missing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bn_audit.recognition.modules import BIAS_NAMES, MEAN_NAMES, VARIANCE_NAMES, WEIGHT_NAMES, is_per_channel
from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import Mode, ModeOrigin, NormKind, NormLayer
from bn_audit.subject.subject import OrphanTensors
from bn_audit.subject.tensor import TensorRef

_INSTANCE_NORM_NAME = re.compile(r"(?:^|[._])(?:instance_?norm|inst_?norm|inorm)\w*$", re.IGNORECASE)
_BATCH_NORM_NAME = re.compile(r"(?:^|[._])(?:\w*batch_?norm\w*|bn\d*|\w+_bn\d*|bn_\w+)$", re.IGNORECASE)
_OTHER_NORM_NAME = re.compile(r"(?:^|[._])(?:ln|gn|layer_?norm|group_?norm|rms_?norm)\w*$", re.IGNORECASE)
_INNER_DIGITS = re.compile(r"\d+(?=.*\.)")

_NORM_BASE_VERSION = 2
"""``_NormBase._version`` of torch.nn since 0.4.1: BatchNorm and InstanceNorm alike; most other modules have 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedLayers:
    """What the names of a state dict show."""

    norms: tuple[NormLayer, ...]
    orphans: tuple[OrphanTensors, ...]


def layers_of_state_dict(
    tensors: Mapping[str, TensorRef],
    *,
    model: str,
    versions: Mapping[str, int] | None = None,
    in_layer_order: bool = True,
) -> NamedLayers:
    """Return the norm layers and the affine parameters without statistics among the tensors of a state dict.

    Args:
        tensors: Every tensor by its key, in the file's order.
        model: Route of the model.
        versions: Module path to ``_version``, from the state dict's ``_metadata``; None where it has none.
        in_layer_order: False where the file sorts its tensors, so that order says nothing about neighbours.
    """
    groups = _by_prefix(tensors)
    norms: list[NormLayer] = []
    preceding: str | None = None
    last_outputs: int | None = None
    for path, group in groups.items():
        norm = _norm_of_group(group, model=model, path=path)
        if norm is not None:
            feeds = preceding if in_layer_order and last_outputs == norm.num_features else None
            norms.append(norm if feeds is None else replace(norm, preceding=feeds))
        weight = group.get("weight")
        if weight is not None and len(weight.shape) > 1:
            preceding, last_outputs = path, weight.shape[0]
    orphans = _orphans(groups, model=model, norms=norms, versions=versions)
    return NamedLayers(norms=tuple(norms), orphans=orphans)


def _by_prefix(tensors: Mapping[str, TensorRef]) -> dict[str, dict[str, TensorRef]]:
    groups: dict[str, dict[str, TensorRef]] = {}
    for name, ref in tensors.items():
        prefix, _, leaf = name.rpartition(".")
        groups.setdefault(prefix, {})[leaf] = ref
    return groups


def _norm_of_group(group: Mapping[str, TensorRef], *, model: str, path: str) -> NormLayer | None:
    mean, variance = _first(group, MEAN_NAMES), _first(group, VARIANCE_NAMES)
    if mean is None or variance is None:
        return None
    weight, bias = _first(group, WEIGHT_NAMES), _first(group, BIAS_NAMES)
    counter = group.get("num_batches_tracked")
    if weight is None and counter is None and "count" in group:
        return None
    if not all(is_per_channel(ref) for ref in (mean, variance, weight, bias) if ref is not None):
        return None
    is_certain = counter is not None or weight is not None
    return NormLayer(
        model=model,
        path=path,
        kind=NormKind.INSTANCE_NORM if _INSTANCE_NORM_NAME.search(path) else NormKind.BATCH_NORM,
        type_name="",
        mode=Mode.UNKNOWN,
        mode_origin=ModeOrigin.NOT_RECORDED,
        uses_batch_statistics=False if _INSTANCE_NORM_NAME.search(path) else None,
        num_features=mean.numel,
        affine=weight is not None or bias is not None,
        weight=weight,
        bias=bias,
        running_mean=mean,
        running_var=variance,
        num_batches_tracked=counter,
        confidence=Confidence.HIGH if is_certain else Confidence.MEDIUM,
    )


def _first(group: Mapping[str, TensorRef], names: tuple[str, ...]) -> TensorRef | None:
    return next((group[name] for name in names if name in group), None)


def _orphans(
    groups: Mapping[str, Mapping[str, TensorRef]],
    *,
    model: str,
    norms: list[NormLayer],
    versions: Mapping[str, int] | None,
) -> tuple[OrphanTensors, ...]:
    known = {norm.path for norm in norms}
    siblings = _Siblings(norms)
    orphans = []
    for path, group in groups.items():
        weight, bias = _first(group, WEIGHT_NAMES), _first(group, BIAS_NAMES)
        if (
            path in known
            or weight is None
            or len(weight.shape) != 1
            or (bias is not None and bias.shape != weight.shape)
        ):
            continue
        if versions is not None and versions.get(path, _NORM_BASE_VERSION) != _NORM_BASE_VERSION:
            continue  # recorded as another kind of module
        if any(name in group for name in (*MEAN_NAMES, *VARIANCE_NAMES)) and "num_batches_tracked" not in group:
            continue  # keeps something else than the pair of a batch norm
        orphans.append(OrphanTensors(model=model, path=path, weight=weight, bias=bias, evidence=None))
    counts = Counter(_pattern(orphan.path) for orphan in orphans)
    return tuple(
        replace(orphan, evidence=_evidence(orphan, groups[orphan.path], siblings, counts[_pattern(orphan.path)]))
        for orphan in orphans
    )


class _Siblings:
    """The batch norms of a model by the pattern of their path."""

    def __init__(self, norms: Sequence[NormLayer]) -> None:
        self._by_pattern: dict[str, list[NormLayer]] = {}
        for norm in norms:
            self._by_pattern.setdefault(_pattern(norm.path), []).append(norm)

    def of(self, orphan: OrphanTensors, alike: int) -> NormLayer | None:
        """Return a sibling that proves the orphan a batch norm.

        Blocks of hybrid networks give the same name to batch norms in one stage and layer norms in another, so
        siblings with statistics must outnumber the `alike` layers without.
        """
        siblings = self._by_pattern.get(_pattern(orphan.path), [])
        if len(siblings) <= alike or (siblings[0].bias is None) != (orphan.bias is None):
            return None
        return siblings[0]


def _evidence(orphan: OrphanTensors, group: Mapping[str, TensorRef], siblings: _Siblings, alike: int) -> str | None:
    if "num_batches_tracked" in group:
        return "it has a batch counter"
    if _OTHER_NORM_NAME.search(orphan.path):
        return None
    if _BATCH_NORM_NAME.search(orphan.path):
        return "its name is that of a batch norm"
    sibling = siblings.of(orphan, alike)
    return f"its sibling {sibling.path} has running statistics" if sibling is not None else None


def _pattern(path: str) -> str:
    """Return the path with the digits of all but its last part taken out: repeated blocks compare equal.

    The last part keeps its digits, since ``net.1`` and ``net.2`` of a Sequential are different kinds of layer.
    """
    return _INNER_DIGITS.sub("*", path)
