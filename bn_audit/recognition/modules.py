"""Is this module a normalisation layer, and would it normalise with the batch?

A layer is recognised by what it holds, since classes of other projects, subclasses and copies have any name: running
statistics (under the names of PyTorch, TensorFlow, BigGAN or the textbooks) make a batch norm, unless something else
shows that it is another thing that keeps running statistics:

- InstanceNorm holds the very same names; its class name, or its base classes where they are recorded, tell it apart.
  Without statistics, the default of InstanceNorm, a layer of unknown class may be either, and is said to be.
- FrozenBatchNorm2d (torchvision, detectron2) holds weight and bias as buffers and ignores the mode. Buffers alone do
  not tell: the batch norms of meta-learning hold theirs so too, but have a momentum.
- Quantised batch norms of ``torch.ao.nn.quantized`` ignore the mode too.
- ActNorm (Glow, VQGAN) takes its scale from the first batch and keeps it.
- Modules of ``torch.fx`` and ``torch.export`` that only hold tensors: the calls in their graph fix the mode.
- Observation normalisers of reinforcement learning (RunningMeanStd) keep a sample ``count``, or are called so, and
  normalise with the running values in either mode: no norm layer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeVar

from bn_audit.errors import TensorUnavailableError
from bn_audit.recognition.description import HeldTensor, ModuleDescription
from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import Mode, ModeOrigin, NormKind, NormLayer, normalises_with_batch
from bn_audit.subject.tensor import TensorRef

Held = TypeVar("Held")

MEAN_NAMES = ("running_mean", "moving_mean", "running_avg_mean", "stored_mean")
"""Names under which layers keep their mean."""

VARIANCE_NAMES = ("running_var", "moving_var", "moving_variance", "stored_var")
"""Names under which layers keep their variance."""

SPREAD_NAMES = (
    *("running_std", "moving_std", "running_avg_std"),
    *("running_covar", "running_cov", "running_covariance", "running_wm", "running_projection"),
)
"""Names of what is kept in its place: a standard deviation (BatchRenorm), a covariance (batch norms for complex
numbers) or a whitening matrix (IterNorm). Running statistics, but no variance."""

STATISTIC_NAMES = frozenset((*MEAN_NAMES, *VARIANCE_NAMES, *SPREAD_NAMES))

WEIGHT_NAMES = ("weight", "gamma", "gain")
BIAS_NAMES = ("bias", "beta")

OBSERVATION_COUNTS = frozenset({"count", "counter", "n", "num_samples", "num_steps", "steps"})
"""Names under which observation normalisers count their samples."""

OBSERVATION_NAME = re.compile(r"running_?(?:mean|norm|stat|std)|normali[sz]er|value_?norm|obs(?:ervation)?_?norm", re.I)
_INITIALISED_FLAGS = ("initialized", "inited", "is_initialized", "data_dep_init_done")
"""Attributes or buffers that say whether an ActNorm has seen its first batch (taming, Glow, nflows, normflows)."""

_GRAPH_HOLDER = re.compile(r"^torch\.nn\.modules\.module\.Module$|^torch\.fx\.|^torch\.export\.unflatten\.")
"""What only holds the tensors of a graph, as below ``ExportedProgram.module()``: the graph decides, not the flag."""

_QUANTISED = re.compile(r"\.nn\.(?:intrinsic\.)?quantized\.")
_BATCH_NORM_NAME = re.compile(r"batch_?(?:re)?norm|batch_?instance_?norm|\bABN|InPlaceABN|evo_?norm", re.IGNORECASE)
INSTANCE_NORM_NAME = re.compile(
    r"(?<!batch)(?<!batch_)inst(?:ance)?_?norm|ada_?in(?:\dd)?$|^in(?:\dd)?$", re.IGNORECASE
)
"""Class names of layers that normalise each sample for itself."""

_FROZEN_NAME = re.compile(r"frozen\w*(?:norm|bn)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    kind: NormKind
    confidence: Confidence = Confidence.HIGH
    uninitialised: bool = False


def norm_of_module(
    module: ModuleDescription,
    *,
    model: str,
    path: str,
    mode_origin: ModeOrigin = ModeOrigin.MODULE_FLAG,
    registered: bool = True,
    preceding: str | None = None,
) -> NormLayer | None:
    """Return the normalisation layer that a module is; None where it is something else.

    Args:
        model: Route of the model.
        path: Module path within it.
        mode_origin: What the ``training`` attribute of this representation means.
        registered: False where ``eval()`` of the model does not reach it.
        preceding: Path of the layer that feeds it, where known.
    """
    verdict = _classify(module)
    if verdict is None:
        return None
    attributes = module.attributes
    held = {**_shelved(module.attributes), **module.buffers, **module.parameters}
    mean, variance = first_of(held, MEAN_NAMES), first_of(held, VARIANCE_NAMES)
    weight, bias = _affine(held, WEIGHT_NAMES), _affine(held, BIAS_NAMES)
    has_statistics = any(held.get(name) is not None for name in STATISTIC_NAMES)
    is_either = verdict.kind.is_batch_norm and verdict.confidence is not Confidence.HIGH and not has_statistics
    mode = mode_of(attributes.get("training"))
    if mode_origin is ModeOrigin.MODULE_FLAG and _GRAPH_HOLDER.search(module.type_name):
        mode, mode_origin = Mode.UNKNOWN, ModeOrigin.NOT_RECORDED
    tensors = (mean, variance, weight, bias)
    return NormLayer(
        model=model,
        path=path,
        kind=verdict.kind,
        type_name=module.type_name,
        mode=mode,
        mode_origin=mode_origin,
        uses_batch_statistics=(
            None if is_either else normalises_with_batch(verdict.kind, mode, running_statistics=has_statistics)
        ),
        num_features=_channels(attributes, tensors),
        eps=_number(attributes.get("eps", attributes.get("epsilon"))),
        momentum=_number(attributes.get("momentum")),
        cumulative="momentum" in attributes and attributes["momentum"] is None,
        affine=_flag(attributes.get("affine")),
        track_running_stats=_flag(attributes.get("track_running_stats")),
        weight=_ref(weight),
        bias=_ref(bias),
        running_mean=_ref(mean),
        running_var=_ref(variance),
        num_batches_tracked=_ref(held.get("num_batches_tracked")),
        requires_grad=_requires_grad(module.parameters),
        uninitialised=verdict.uninitialised or any(tensor is not None and tensor.uninitialised for tensor in tensors),
        confidence=verdict.confidence,
        registered=registered,
        preceding=preceding,
    )


def mode_of(training: object) -> Mode:
    """Return the mode that a module's ``training`` attribute states."""
    return {True: Mode.TRAIN, False: Mode.EVAL}[training] if isinstance(training, bool) else Mode.UNKNOWN


def _classify(module: ModuleDescription) -> _Verdict | None:
    name = module.class_name
    if "ActNorm" in name and (module.parameters or module.buffers):
        return _Verdict(kind=NormKind.FROZEN_BATCH_NORM, uninitialised=_awaits_first_batch(module))
    if all(STATISTIC_NAMES.isdisjoint(names) for names in (module.buffers, module.attributes, module.parameters)):
        return None  # nearly every module of a network
    names = module.parameters.keys() | module.buffers.keys() | _shelved(module.attributes).keys()
    has_mean = any(candidate in names for candidate in MEAN_NAMES)
    has_spread = any(candidate in names for candidate in (*VARIANCE_NAMES, *SPREAD_NAMES))
    if not has_spread or not (has_mean or _BATCH_NORM_NAME.search(name)) or _is_other_keeper(module, names):
        return None
    return _classify_statistics_keeper(module)


def _is_other_keeper(module: ModuleDescription, names: AbstractSet[str]) -> bool:
    """True for what keeps running statistics and never normalises with those of the batch."""
    if any(base.endswith(("._BatchNorm", "._InstanceNorm")) for base in module.bases):
        return False
    name = module.class_name
    if "EvoNorm" in name and str(module.attributes.get("version", "")).startswith("S"):
        return True  # EvoNorm-S0 normalises the groups of each sample, and keeps a running_var unused
    if any(weight in names for weight in WEIGHT_NAMES):
        return False
    is_called_so = OBSERVATION_NAME.search(name) and not _BATCH_NORM_NAME.search(name)
    return bool(is_called_so) or not OBSERVATION_COUNTS.isdisjoint(names)


def _classify_statistics_keeper(module: ModuleDescription) -> _Verdict:
    lineage = (module.type_name, *module.bases)
    name = module.class_name.lower()
    is_batch_norm = any(base.endswith("._BatchNorm") for base in module.bases)
    is_instance_norm = INSTANCE_NORM_NAME.search(name) or module.attributes.get("instance") is True  # e3nn
    if any(base.endswith("._InstanceNorm") for base in module.bases) or (is_instance_norm and not is_batch_norm):
        return _Verdict(kind=NormKind.INSTANCE_NORM)
    if _QUANTISED.search(module.type_name) or _has_fixed_affine(module):
        return _Verdict(kind=NormKind.FROZEN_BATCH_NORM)
    if _FROZEN_NAME.search(name):
        return _Verdict(kind=NormKind.FROZEN_BATCH_NORM, confidence=Confidence.MEDIUM)
    if "sync" in name or "process_group" in module.attributes or any("SyncBatchNorm" in base for base in lineage):
        return _Verdict(kind=NormKind.SYNC_BATCH_NORM)
    return _Verdict(kind=NormKind.BATCH_NORM, confidence=_confidence(module))


def _has_fixed_affine(module: ModuleDescription) -> bool:
    """True where weight, bias and statistics are all buffers and nothing says how to update them."""
    return (
        "momentum" not in module.attributes
        and all(
            any(candidate in module.buffers for candidate in candidates)
            for candidates in (WEIGHT_NAMES, BIAS_NAMES, VARIANCE_NAMES)
        )
        and not any(module.parameters.values())
    )


def _confidence(module: ModuleDescription) -> Confidence:
    """HIGH for what is a batch norm by name, base class or set of attributes; MEDIUM for the other keepers.

    A subclass of InstanceNorm of another name is one of these while it stores no statistics.
    """
    if _BATCH_NORM_NAME.search(module.class_name) or any(base.endswith("._BatchNorm") for base in module.bases):
        return Confidence.HIGH
    if not any(module.buffers.values()) and not _shelved(module.attributes):
        return Confidence.MEDIUM
    return Confidence.HIGH if {"eps", "momentum", "training"} <= module.attributes.keys() else Confidence.MEDIUM


def _awaits_first_batch(module: ModuleDescription) -> bool:
    for name in _INITIALISED_FLAGS:
        flag = module.attributes.get(name)
        if isinstance(flag, bool):
            return not flag
        held = module.buffers.get(name)
        if held is not None and held.ref.numel == 1:
            try:
                return not held.ref.values()[0]
            except TensorUnavailableError:
                return False
    return module.attributes.get("init_on_next_batch") is True  # FrEIA


def _shelved(attributes: Mapping[object, object]) -> dict[str, HeldTensor | None]:
    """Return the tensors that hand-written layers keep as plain attributes (``self.moving_mean = ...``)."""
    return {name: held for name in STATISTIC_NAMES if isinstance(held := attributes.get(name), HeldTensor)}


def first_of(held: Mapping[str, Held | None], names: tuple[str, ...]) -> Held | None:
    """Return the tensor of the first of these names under which there is one."""
    return next((tensor for name in names if (tensor := held.get(name)) is not None), None)


def _affine(held: Mapping[str, HeldTensor | None], names: tuple[str, ...]) -> HeldTensor | None:
    """Return the first with one value for each channel, or for each statistic: the kernel of a convolution is none."""
    shapes = {tensor.ref.shape for name in (*MEAN_NAMES, *VARIANCE_NAMES) if (tensor := held.get(name)) is not None}
    fitting = {
        name: tensor
        for name in names
        if (tensor := held.get(name)) is not None
        and (tensor.uninitialised or is_per_channel(tensor.ref) or tensor.ref.shape in shapes)
    }
    return first_of(fitting, names)


def is_per_channel(ref: TensorRef) -> bool:
    """Return True for shape (C,), and for (1, C, 1, 1) and its like, as layers written by hand keep them."""
    return len(ref.shape) == 1 or (len(ref.shape) > 1 and sum(size != 1 for size in ref.shape) <= 1)


def _ref(held: HeldTensor | None) -> TensorRef | None:
    return held.ref if held is not None and not held.uninitialised else None


def _requires_grad(parameters: Mapping[str, HeldTensor | None]) -> bool | None:
    states = [held.requires_grad for held in parameters.values() if held is not None]
    if not states or None in states:
        return None
    return any(states)


def _channels(attributes: Mapping[object, object], tensors: tuple[HeldTensor | None, ...]) -> int | None:
    stated = attributes.get("num_features")
    if isinstance(stated, int) and not isinstance(stated, bool) and stated > 0:
        return stated
    return next((held.ref.numel for held in tensors if held is not None and not held.uninitialised), None)


def _number(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None
