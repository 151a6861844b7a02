"""Normalisation layers, and the truth that matters about each: would it normalise with the current batch?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from bn_audit.subject.finding import Confidence, Location
from bn_audit.subject.tensor import TensorRef


class NormKind(Enum):
    """What a normalisation layer computes, whatever its class is called."""

    BATCH_NORM = "batch_norm"
    SYNC_BATCH_NORM = "sync_batch_norm"
    FROZEN_BATCH_NORM = "frozen_batch_norm"
    """Fixed statistics and affine parameters whatever the mode: FrozenBatchNorm2d, an initialised ActNorm."""
    INSTANCE_NORM = "instance_norm"

    @property
    def is_batch_norm(self) -> bool:
        """True where training mode means statistics over the batch."""
        return self in (NormKind.BATCH_NORM, NormKind.SYNC_BATCH_NORM)


class Mode(Enum):
    """The mode in which an artifact says that a layer or model will run."""

    TRAIN = "train"
    EVAL = "eval"
    CALLER = "caller"
    """Decided at each call, as in Candle and Burn."""
    UNKNOWN = "unknown"
    """The artifact does not say; this is not EVAL."""


class ModeOrigin(Enum):
    """Where an artifact states the mode of a layer; it decides who can still change it."""

    MODULE_FLAG = "module-flag"
    """``training`` of a pickled or live module: ``eval()`` changes it after loading."""
    SCRIPTED_FLAG = "scripted-flag"
    """``training`` attribute of a scripted module: ``eval()`` after loading changes it, in C++ too."""
    TRACED_CONSTANT = "traced-constant"
    """A constant argument of a batch-norm call in TorchScript code: nothing changes it after loading."""
    EXPORTED_ARGUMENT = "exported-argument"
    """The operator or its argument in an exported program: nothing changes it after loading."""
    ONNX_ATTRIBUTE = "onnx-attribute"
    """``training_mode`` of an ONNX node, operator set 14 and later; absent means inference."""
    ONNX_LEGACY = "onnx-legacy"
    """An ONNX node below operator set 14: ``is_test`` (1 to 6, absent means training) or the number of outputs."""
    ONNX_COMPUTED = "onnx-computed"
    """No stored statistics: an ONNX graph computes them at each call, before the node or in the node's place."""
    NOT_RECORDED = "not-recorded"


class InputOrigin(Enum):
    """What a batch-norm call in a graph normalises, as far as walking its input back shows."""

    ACTIVATIONS = "activations"
    """Values computed from the graph's inputs, with the samples along the batch axis."""
    PARAMETERS = "parameters"
    """Values computed from parameters and constants alone: weight standardisation."""
    INSTANCES = "instances"
    """Each sample folded into the channel axis first: an InstanceNorm in disguise."""
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class NormLayer:
    """One normalisation layer of one model in an artifact.

    Attributes:
        model: Route of the model within the artifact; ``""`` at the top.
        path: Module path within the model, such as ``layer1.0.bn1``; in graphs without paths the node's name.
        kind: What the layer computes.
        type_name: Qualified class name or operator, such as ``torch.nn.modules.batchnorm.BatchNorm2d``.
        mode: The mode the artifact states.
        mode_origin: Where it states it.
        uses_batch_statistics: Would this layer, run as the artifact is, normalise with statistics of the current
            batch? None: the artifact cannot say. False for an InstanceNorm, whose samples never mix.
        num_features: Number of channels C; every tensor but the counter has shape (C,).
        eps: Added to the variance, in squared units of the input.
        momentum: Weight of the new batch in the running statistics (PyTorch's convention).
        cumulative: True where momentum is None in PyTorch's sense: running statistics are plain averages.
        affine: Has weight and bias.
        track_running_stats: The flag as stored; it may contradict the buffers.
        running_mean: Shape (C,).
        running_var: Shape (C,); unbiased in PyTorch and Candle, biased in Burn.
        num_batches_tracked: Scalar counter of training-mode forward passes.
        requires_grad: Whether weight and bias take gradients; None where not recorded.
        registered: False where the layer sits in a plain list or dict that ``eval()`` does not reach.
        uninitialised: True where it waits for its first batch: LazyBatchNorm, a fresh ActNorm.
        input_origin: For batch-norm calls in graphs only.
        confidence: How sure it is that this is a normalisation layer in the stated mode.
        contradiction: What an ONNX node says against its own mode, as a clause; None where nothing does.
        preceding: Path of the layer that feeds this one, where the artifact shows it.
        node: Name of the node or call in a graph.
        aliases: Other paths at which the same layer is registered.
    """

    model: str
    path: str
    kind: NormKind
    type_name: str
    mode: Mode
    mode_origin: ModeOrigin
    uses_batch_statistics: bool | None
    num_features: int | None = None
    eps: float | None = None
    momentum: float | None = None
    cumulative: bool = False
    affine: bool | None = None
    track_running_stats: bool | None = None
    weight: TensorRef | None = None
    bias: TensorRef | None = None
    running_mean: TensorRef | None = None
    running_var: TensorRef | None = None
    num_batches_tracked: TensorRef | None = None
    requires_grad: bool | None = None
    registered: bool = True
    uninitialised: bool = False
    input_origin: InputOrigin | None = None
    confidence: Confidence = Confidence.HIGH
    contradiction: str | None = None
    preceding: str | None = None
    node: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def location(self) -> Location:
        """Where a finding about this layer points."""
        return Location(model=self.model, path=self.path, node=self.node)

    @property
    def has_running_statistics(self) -> bool:
        """True where both running_mean and running_var are stored."""
        return self.running_mean is not None and self.running_var is not None

    @property
    def tensors(self) -> dict[str, TensorRef]:
        """The stored tensors by role: weight, bias, running_mean, running_var, num_batches_tracked."""
        roles = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        return {role: tensor for role in roles if (tensor := getattr(self, role)) is not None}

    def detached(self) -> NormLayer:
        """Return the same layer with tensors that no longer load, but for the counter; it travels between processes."""
        detached = {role: tensor.detached() for role, tensor in self.tensors.items()}
        if self.num_batches_tracked is not None and self.num_batches_tracked.numel == 1:
            detached["num_batches_tracked"] = self.num_batches_tracked.held()
        return replace(self, **detached)  # type: ignore[arg-type]


def common_mode(norms: Iterable[NormLayer]) -> Mode:
    """Return the mode of all batch norms that have one to be in: without statistics both look alike."""
    modes = {norm.mode for norm in norms if norm.kind.is_batch_norm and norm.has_running_statistics}
    return modes.pop() if len(modes) == 1 else Mode.UNKNOWN


def normalises_with_batch(kind: NormKind, mode: Mode, *, running_statistics: bool | None) -> bool | None:
    """Return whether a layer normalises with the current batch, as PyTorch's ``_BatchNorm.forward`` decides it.

    Args:
        kind: Instance norms and frozen batch norms never mix samples.
        mode: The stated mode.
        running_statistics: Whether the layer holds running_mean or running_var; None where not known. A layer without
            them normalises with the batch in either mode, whatever ``track_running_stats`` says.

    Source: torch/nn/modules/batchnorm.py, ``bn_training``, unchanged since 1.6.
    """
    if not kind.is_batch_norm:
        return False
    if mode is Mode.TRAIN or running_statistics is False:
        return True
    if mode is Mode.EVAL and running_statistics:
        return False
    return None
