"""What travels between the pipeline, the backends and the measurements when a model is run.

Arrays are numpy arrays; bfloat16 and the float8 kinds are those of ml_dtypes. Nothing here imports numpy at run time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from bn_audit.subject.observation import LayerEffect, Place

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[np.generic]
else:
    Array = Any

Batch: TypeAlias = Mapping[str, Array]
"""Input arrays by name, each with its batch axis."""

Outputs: TypeAlias = Mapping[str, Array]
"""Output arrays by name; members of tuples and dicts by their dotted place, such as ``logits`` or ``features.0``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One model to run, as it travels to the child process; everything in it can be written as JSON.

    Attributes:
        source: Path of the file or ``package.module:factory``.
        format: Name of the format that read it.
        route: Key path of the model within a checkpoint.
        weights: State dict to load into a factory's model.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: Element type to run in; None for the model's own.
        threads: Of the backend; None for its own choice.
        seed: Every random draw follows from it.
        batch_sizes: To compare, as asked for.
        tier: ``quick`` or ``full``.
        inputs: ``NAME=DTYPE:SHAPE`` each, of one sample.
        inputs_file: Real samples: ``.npz``, ``.npy`` or ``.safetensors``.
        batch_axis: Axis of the samples in every input and output; None: the first, or as the file declares.
        trust: The file's code may be run.
        time_limit: Seconds for the whole measurement.
        memory_limit: Bytes of memory that the child may take; None for no limit.
    """

    source: str
    format: str
    route: str = ""
    weights: str | None = None
    device: str = "cpu"
    dtype: str | None = None
    threads: int | None = None
    seed: int = 0
    batch_sizes: tuple[int, ...] = (1, 2, 3, 8)
    tier: str = "full"
    inputs: tuple[str, ...] = ()
    inputs_file: str | None = None
    batch_axis: int | None = None
    trust: bool = False
    time_limit: float = 600.0
    memory_limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """One input as a model declares it, or as its first layers let one deduce it.

    Attributes:
        name: As the backend takes it; positional arguments of a module carry their parameter's name.
        dtype: PyTorch's name of the element type.
        shape: With the batch axis; a size is an int, the name of a symbol, or None where it is free or unknown.
        batch_axis: None where the input has no axis of samples.
        highest: One more than the largest value of an integer input (token ids); None where unknown.
        origin: Where this is known from, as a report says it: ``the graph``, ``its sample inputs``, ``Conv2d 'stem'``.
        sample: Values that the artifact carries, with the batch axis; None for none.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]
    batch_axis: int | None = 0
    highest: int | None = None
    origin: str = ""
    sample: Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Consecutive forward passes on one fresh copy of the model.

    Attributes:
        outputs: One entry for each batch given.
        seconds: Time of each pass.
        changed: Names of stored tensors that differ afterwards, by bits.
        trace: A digest of the operators that ran and the shapes they gave; equal digests mean that the same kernels
            ran in the same order. None where it was not asked for or the backend cannot tell.
        low_precision: True where an operator of a float64 run worked in less.
    """

    outputs: tuple[Outputs, ...]
    seconds: tuple[float, ...] = ()
    changed: tuple[str, ...] = ()
    trace: str | None = None
    low_precision: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Localisation:
    """Where samples meet.

    Attributes:
        first: The first place where companions move the probe's rows, or where rows move to other places.
        combined: The first place where elements of two samples are combined, if that is another one.
        profile: Effect by layer in the order of execution.
        overlaps: Every place at which samples meet, in order; used for latent mixing.
    """

    first: Place | None = None
    combined: Place | None = None
    profile: tuple[LayerEffect, ...] = ()
    overlaps: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """The norm and dropout calls of one forward pass.

    Attributes:
        norm_calls: How often a batch norm (or one with running statistics) was called.
        registered: Norm layers registered in the model that were among the callers.
        unregistered: Where calls came from that no registered layer accounts for.
        batch_statistics: Norm layers, or places of functional calls, that normalised with the batch's statistics.
        ungated_dropout: Where functional dropout drew although its module is in evaluation mode.
        untrained: Every norm layer that ran still holds initial statistics.
        dynamic_ranges: Where one activation range is chosen for the whole batch.
    """

    norm_calls: int = 0
    registered: int = 0
    unregistered: tuple[Place, ...] = ()
    batch_statistics: tuple[Place, ...] = ()
    ungated_dropout: tuple[Place, ...] = ()
    untrained: bool = False
    dynamic_ranges: tuple[Place, ...] = ()
