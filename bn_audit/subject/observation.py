"""What a model did when it was run: numbers and places, as the sweep measured them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bn_audit.subject.run_verdict import (
    CANNOT_RUN,
    CONTENT,
    FLAGS,
    INCONCLUSIVE,
    INDEPENDENT,
    MUTATES_STATE,
    POSITION,
    RNG,
    SIZE,
    STATEFUL,
    VERDICTS,
)

__all__ = [
    "CANNOT_RUN",
    "CONTENT",
    "FLAGS",
    "INCONCLUSIVE",
    "INDEPENDENT",
    "MUTATES_STATE",
    "POSITION",
    "RNG",
    "SIZE",
    "STATEFUL",
    "VERDICTS",
    "InputUsed",
    "LayerEffect",
    "Observation",
    "OutputResult",
    "Place",
    "SizeResult",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A layer or node of the running model.

    Attributes:
        path: Module path; ``""`` for the root or where the backend names none.
        type_name: Class of the module; ``""`` where unknown.
        op: Operator, such as ``aten.native_batch_norm.default`` or ``Softmax``; ``""`` where unknown.
        node: Name of the graph's node; None for modules.
    """

    path: str = ""
    type_name: str = ""
    op: str = ""
    node: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerEffect:
    """How far the companions move the probe's rows in one layer.

    Attributes:
        effect: Largest change relative to the layer's largest output of that sample; 0.0 for none at all.
        is_norm: The layer is a norm layer.
    """

    path: str
    effect: float
    type_name: str = ""
    is_norm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeResult:
    """One batch size.

    Attributes:
        batch_size: Number of samples.
        status: ``ok`` or ``failed``.
        max_abs: Largest absolute difference of an output element from the same sample in the reference run; None where
            not comparable.
        max_rel: Largest difference relative to the sample's largest output element.
        top1_changes: Samples whose largest class score is another one; None where no output is class scores.
        seconds: Time of the forward pass.
        error: Why it failed; ``""`` where it did not.
        samples: `max_rel` of each sample of this batch, in order: the row of the heat map.
    """

    batch_size: int
    status: str = "ok"
    max_abs: float | None = None
    max_rel: float | None = None
    top1_changes: int | None = None
    seconds: float | None = None
    error: str = ""
    samples: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputResult:
    """One output over all experiments that changed nothing about its own sample.

    Attributes:
        shape: At the largest batch size, with the batch axis.
        batch_axis: None where no axis follows the batch size.
        max_abs: As in `SizeResult`, over companions, positions and sizes.
        max_rel: Likewise.
        top1_changes: None where the output is not class scores.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    batch_axis: int | None = 0
    max_abs: float | None = None
    max_rel: float | None = None
    top1_changes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputUsed:
    """One input as it was fed.

    Attributes:
        shape: Of one sample, without the batch axis.
        batch_axis: None where the input is shared by all samples.
        origin: Where shape and values come from, as the report says it.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    batch_axis: int | None = 0
    origin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one model of an artifact did when it was run.

    Effects are relative: the largest change of an element of a sample's output over the largest element of that
    sample's output in the reference run.

    Attributes:
        model: Route of the model within the artifact.
        runner: The backend.
        tier: ``quick`` or ``full``.
        verdict: One of `VERDICTS`.
        why: One clause that says what the verdict rests on, or why there is none.
        effect: The effect that the verdict rests on; None where there is none to state.
        noise_floor: Effect below which a difference between batch sizes is floating point, for this model.
        reference_size: Samples in the batch with which the sizes are compared; None where nothing ran.
        first_divergence: Where samples first mix; None where not localised.
        combined_at: Where rows that only moved are first combined, if that is another place.
        restored_by: Paths of norm layers that, set to evaluation, make the dependence go away.
        latent: Where samples mix without effect on an output.
        profile: Effect of the companions by layer, in the order of execution.
        buffers_changed: Tensors that a run changed, by name.
        norm_buffers_changed: Those among them that are running statistics of a norm layer.
        fails_at_one: Error at batch size 1 where larger batches run; ``""`` for none.
        lost_at: Batch sizes at which an output has no axis of that size, although it has at others.
        repeat_effect: Difference between two runs of the same batch, same state, same seed.
        seed_effect: Between two seeds.
        second_call_effect: Between the first and the second run of the same batch without reset.
        mode_gap: Between evaluation and training mode: how much the wrong mode matters; None where it cannot be set.
        rounding_only: A difference was seen and explained by floating point; the largest.
        optimisation_effect: Between the runtime's optimised and plain form of the same model, beyond its noise.
        padding_effect: Of padding an input to a larger companion; None where inputs cannot be padded.
        norm_calls: Norm calls of one forward pass.
        registered_norms: Norm layers registered in the model that were called.
        unregistered_norms: Where norm calls use the batch's statistics and no registered layer accounts for them.
        ungated_dropout: Where functional dropout drew in evaluation mode.
        drifting: Tensors which the runtime overwrites, so that identical calls drift.
        fixed_batch: The only batch size that the model takes; None where it takes several.
        is_untrained: Norm statistics are initial or constant weights hide effects: nothing is certified.
        quantised_dynamically: The dependence comes from one activation range for the whole batch.
        forwards: Forward passes that were run.
        seconds: Of the whole measurement.
        environment: Versions by package.
        command: What repeats the measurement exactly.
        remarks: What a reader must know, one sentence each.
    """

    model: str = ""
    runner: str
    device: str = "cpu"
    dtype: str = ""
    threads: int | None = None
    seed: int = 0
    tier: str = "full"
    verdict: str
    why: str = ""
    flags: tuple[str, ...] = ()
    effect: float | None = None
    noise_floor: float | None = None
    sizes: tuple[SizeResult, ...] = ()
    outputs: tuple[OutputResult, ...] = ()
    inputs: tuple[InputUsed, ...] = ()
    reference_size: int | None = None
    first_divergence: Place | None = None
    combined_at: Place | None = None
    restored_by: tuple[str, ...] = ()
    latent: tuple[Place, ...] = ()
    profile: tuple[LayerEffect, ...] = ()
    buffers_changed: tuple[str, ...] = ()
    norm_buffers_changed: tuple[str, ...] = ()
    fails_at_one: str = ""
    lost_at: tuple[int, ...] = ()
    repeat_effect: float | None = None
    seed_effect: float | None = None
    second_call_effect: float | None = None
    mode_gap: float | None = None
    rounding_only: float | None = None
    optimisation_effect: float | None = None
    padding_effect: float | None = None
    norm_calls: int | None = None
    registered_norms: int | None = None
    unregistered_norms: tuple[Place, ...] = ()
    ungated_dropout: tuple[Place, ...] = ()
    drifting: tuple[str, ...] = ()
    fixed_batch: int | None = None
    is_untrained: bool = False
    quantised_dynamically: bool = False
    forwards: int = 0
    seconds: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    remarks: tuple[str, ...] = ()

    def with_command(self, command: str) -> Observation:
        """Return the same observation with the command that repeats it."""
        return replace(self, command=command)
