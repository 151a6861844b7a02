"""Normalisation layers in a state dict, where only names and shapes tell.

A batch norm is a group of keys with one prefix that holds a running mean and a running variance of equal length and,
if it has affine parameters, these of the same length. Everything else that keeps running statistics fails on one of
these (a two-dimensional weight beside them, a mean without a variance, an observation counter), but for a few that are
known by another tensor they hold:

- the batch counter beside statistics of two dimensions: models stacked into one (``torch.func.stack_module_state``),
- the counter or the scale beside a mean and a deviation or covariance: BatchRenorm, batch norms for complex numbers,
- the parameter ``v`` beside a variance alone: EvoNorm-B0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from bn_audit.recognition.modules import (
    BIAS_NAMES,
    MEAN_NAMES,
    OBSERVATION_COUNTS,
    OBSERVATION_NAME,
    SPREAD_NAMES,
    VARIANCE_NAMES,
    WEIGHT_NAMES,
    first_of,
    is_per_channel,
)
from bn_audit.recognition.orphans import orphans_of
from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import Mode, ModeOrigin, NormKind, NormLayer
from bn_audit.subject.subject import OrphanTensors
from bn_audit.subject.tensor import TensorRef

_INSTANCE_NORM_NAME = re.compile(r"(?:^|[._])(?:instance_?norm|inst_?norm|inorm)\w*$", re.IGNORECASE)

_COUNTER = "num_batches_tracked"


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
    orphans = orphans_of(groups, model=model, norms=norms, versions=versions)
    return NamedLayers(norms=tuple(norms), orphans=orphans)


def _by_prefix(tensors: Mapping[str, TensorRef]) -> dict[str, dict[str, TensorRef]]:
    groups: dict[str, dict[str, TensorRef]] = {}
    for name, ref in tensors.items():
        prefix, _, leaf = name.rpartition("." if "." in name else "/")  # slashes come from TensorFlow and Flax
        groups.setdefault(prefix, {})[leaf] = ref
    return groups


def _norm_of_group(group: Mapping[str, TensorRef], *, model: str, path: str) -> NormLayer | None:
    mean, variance = first_of(group, MEAN_NAMES), first_of(group, VARIANCE_NAMES)
    weight, bias = _affine(group, WEIGHT_NAMES), _affine(group, BIAS_NAMES)
    counter = group.get(_COUNTER)
    if not _keeps_statistics_of_batches(group, path, mean, variance):
        return None
    measure = mean if mean is not None else variance
    is_certain = counter is not None or weight is not None
    return NormLayer(
        model=model,
        path=path,
        kind=NormKind.INSTANCE_NORM if _INSTANCE_NORM_NAME.search(path) else NormKind.BATCH_NORM,
        type_name="",
        mode=Mode.UNKNOWN,
        mode_origin=ModeOrigin.NOT_RECORDED,
        uses_batch_statistics=False if _INSTANCE_NORM_NAME.search(path) else None,
        num_features=measure.numel if measure is not None else None,
        affine=weight is not None or bias is not None,
        weight=weight,
        bias=bias,
        running_mean=mean,
        running_var=variance,
        num_batches_tracked=counter,
        confidence=Confidence.HIGH if is_certain else Confidence.MEDIUM,
    )


def _keeps_statistics_of_batches(
    group: Mapping[str, TensorRef], path: str, mean: TensorRef | None, variance: TensorRef | None
) -> bool:
    weight = first_of(group, WEIGHT_NAMES)
    if weight is None and _COUNTER not in group and _observes(group, path):
        return False
    is_certain = _COUNTER in group or weight is not None
    if mean is None:
        return variance is not None and is_per_channel(variance) and {"weight", "bias", "v"} <= group.keys()
    if variance is None:
        return is_certain and is_per_channel(mean) and any(name in group for name in SPREAD_NAMES)
    if _COUNTER in group and mean.shape == variance.shape:
        return True
    has_scale = weight is None or any(is_per_channel(group[name]) for name in WEIGHT_NAMES if name in group)
    return has_scale and is_per_channel(mean) and is_per_channel(variance)


def _observes(group: Mapping[str, TensorRef], path: str) -> bool:
    """Return whether statistics without scale and batch counter are those of an observation normaliser."""
    return not OBSERVATION_COUNTS.isdisjoint(group) or bool(OBSERVATION_NAME.search(path.rpartition(".")[2]))


def _affine(group: Mapping[str, TensorRef], names: tuple[str, ...]) -> TensorRef | None:
    """Return the first with the shape of a scale, or of the statistics; a kernel beside ``gamma`` is none."""
    shapes = {group[name].shape for name in (*MEAN_NAMES, *VARIANCE_NAMES) if name in group}
    fitting = {name: group[name] for name in names if name in group}
    return first_of(
        {name: ref for name, ref in fitting.items() if is_per_channel(ref) or ref.shape in shapes},
        names,
    )
