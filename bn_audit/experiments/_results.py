"""What each experiment found, as the experiments after it and the verdict read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from bn_audit.experiments._comparing import Axes
from bn_audit.running import Figures
from bn_audit.subject.run import Batch, Calls, Localisation, Outputs

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The batch with which everything is compared.

    Attributes:
        outputs: Of the first call on a fresh copy.
        second: Of the second call with the same batch on the same copy.
        changed: Names of the stored tensors that two calls changed.
        failures: Batch sizes that were tried before this one and failed, with the error.
        seconds: Time of the first call.
    """

    batch_size: int
    batch: Batch
    outputs: Outputs
    second: Outputs
    changed: tuple[str, ...] = ()
    failures: Mapping[int, str] = field(default_factory=dict)
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """Differences between runs of the same batch; None where not measured."""

    second_call: float
    same_seed: float | None = None
    other_seed: float | None = None

    @property
    def is_random(self) -> bool:
        """Whether the answer changes with the seed, or without any reason that can be controlled."""
        return bool(self.same_seed) or bool(self.other_seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeRun:
    """One batch size: its outputs, or why there are none."""

    batch_size: int
    outputs: Outputs | None = None
    seconds: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The other batch sizes, and the axis of the samples that they show in each output."""

    runs: tuple[SizeRun, ...]
    axes: Axes

    @property
    def is_attributable(self) -> bool:
        """Whether any output has an axis of the samples."""
        return any(axis is not None for axis in self.axes.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """One exchange of the companions.

    Attributes:
        drawn: What took the companions' place.
        index: Row of the probe.
        batch: The probe among the new companions.
        probe: The old companions around a new probe.
        effect: On the probe's rows.
    """

    drawn: str
    index: int
    batch: Batch
    probe: Batch
    outputs: Outputs
    effect: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Swaps:
    """All exchanges; `worst` is the one that moved the probe most, None where none moved a bit."""

    tried: int
    worst: Swap | None
    spare: Swap | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """One sample in every row."""

    batch: Batch
    outputs: Outputs
    effect: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """The model's own response to a change of one unit in the last place; None where it could not be measured."""

    response: float | None
    jittered: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """Which differences are real and which are floating point; None where undecided or nothing was to decide.

    Attributes:
        sizes: Every size whose rows differed.
        rounding: The largest difference that floating point explains.
        how: What the decision about the companions rests on.
    """

    content: bool | None = None
    position: bool | None = None
    sizes: Mapping[int, bool | None] = field(default_factory=dict)
    rounding: float | None = None
    how: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeGap:
    """Difference between norm layers in evaluation and in training mode."""

    effect: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoration:
    """Norm layers that, set to evaluation, take the dependence away; empty where none do."""

    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The norm and dropout calls; None where the backend does not show them."""

    calls: Calls | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimisation:
    """The other form in which the backend runs the model, beside this one.

    Attributes:
        effect: Difference on the reference batch.
        removes_randomness: This form draws random numbers, the other one gives the same answer twice.
    """

    effect: float | None
    removes_randomness: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Padding:
    """Difference that padding makes; None where no input can be padded."""

    effect: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Stored tensors that identical calls change along with their answers."""

    tensors: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where samples meet; None where it could not be followed, with the reason."""

    localisation: Localisation | None
    why_not: str = ""


def figures_of(result: object) -> Figures:
    """Return the figures of an experiment that has one result."""
    return {"result": result}


def found(figures: Mapping[str, Figures], kind: type[Result]) -> Result | None:
    """Return the result of that kind, the last where there are several; None where its experiment did not run."""
    for entry in reversed(list(figures.values())):
        result = entry.get("result")
        if isinstance(result, kind):
            return result
    return None


def reference_of(figures: Mapping[str, Figures]) -> Reference:
    """Return the reference run, without which no other experiment starts."""
    reference = found(figures, Reference)
    if reference is None:
        raise LookupError("the reference run comes first")
    return reference


def axes_from(figures: Mapping[str, Figures]) -> Axes:
    """Return the axis of the samples in each output."""
    sizes = found(figures, Sizes)
    return sizes.axes if sizes is not None else {}


def is_random(figures: Mapping[str, Figures]) -> bool:
    """Return whether randomness is live, so that only what keeps seed and place can be compared."""
    repeat = found(figures, Repeat)
    return repeat is not None and repeat.is_random


def is_steady(figures: Mapping[str, Figures]) -> bool:
    """Return whether the same batch gives the same answer."""
    return not is_random(figures)


def depends_on_content(figures: Mapping[str, Figures]) -> bool:
    """Return whether what the companions hold was confirmed to change an answer."""
    confirmation = found(figures, Confirmation)
    return confirmation is not None and confirmation.content is True
