"""The numbers of one norm layer, and the affine map that it is in inference."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from bn_audit.errors import ArtifactError
from bn_audit.subject.norm import NormLayer

ROLES = ("weight", "bias", "running_mean", "running_var")

DEAD_WEIGHT = 0.01
"""A weight of at most this share of the layer's largest lets nothing through.

Weight decay drives the weight of a dead channel to 1e-4 and below; the smallest weight of a channel that still carries
signal is seldom under a tenth of the largest.
"""

DEAD_VARIANCE = 1e-12
"""A channel whose input never changes loses a tenth of its variance per batch (momentum 0.1): 1 falls below this in
262 batches, and float32 holds it for 600 more."""

DEAD_MEANING = (
    f"dead: channels whose |weight| is at most {DEAD_WEIGHT} of the layer's largest, "
    f"or whose variance is at most {DEAD_VARIANCE}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One layer, its tensors loaded.

    Attributes:
        columns: The elements by role, each of length C; a role is absent where the artifact has no such tensor.
        eps: As recorded, else as the caller says; None where neither does.
        counter: Batches seen in training mode.
        problems: Tensors that could not be loaded, one reason each.
    """

    norm: NormLayer
    columns: dict[str, Sequence[float]]
    eps: float | None
    counter: int | None
    problems: tuple[str, ...]

    @property
    def channels(self) -> int:
        """Number of channels: as recorded, else the length of a tensor; 0 where nothing tells."""
        if self.norm.num_features is not None:
            return self.norm.num_features
        return max((len(column) for column in self.columns.values()), default=0)

    @property
    def is_double(self) -> bool:
        """True where a tensor is stored with more than float32 holds."""
        return any(ref.dtype == "float64" for role, ref in self.norm.tensors.items() if role in ROLES)

    @property
    def dead(self) -> int | None:
        """Number of dead channels (see `DEAD_MEANING`); None without weight and variance."""
        weight, variance = self.columns.get("weight"), self.columns.get("running_var")
        if weight is None and variance is None:
            return None
        dead: set[int] = set()
        if weight:
            floor = DEAD_WEIGHT * max(abs(value) for value in weight)
            dead.update(channel for channel, value in enumerate(weight) if abs(value) <= floor)
        if variance:
            dead.update(channel for channel, value in enumerate(variance) if abs(value) <= DEAD_VARIANCE)
        return len(dead)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """``y = scale * x + shift``, what the layer computes in inference; each of length C."""

    scale: tuple[float, ...]
    shift: tuple[float, ...]


def load(norm: NormLayer, eps: float | None = None) -> Figures:
    """Return the layer with its tensors loaded; what cannot be loaded is named in `problems`.

    Args:
        eps: Stands in where the artifact records none.
    """
    columns: dict[str, Sequence[float]] = {}
    problems = []
    counter = None
    for role, ref in norm.tensors.items():
        try:
            values = ref.values()
        except ArtifactError as error:
            problems.append(str(error))
            continue
        if role in ROLES:
            columns[role] = values
        elif len(values) == 1 and math.isfinite(values[0]):
            counter = int(values[0])
    return Figures(
        norm=norm,
        columns=columns,
        eps=eps if norm.eps is None else norm.eps,
        counter=counter,
        problems=tuple(problems),
    )


def fold(figures: Figures) -> Fold | str:
    """Return the affine map of the layer in inference, or why there is none.

    scale = weight / sqrt(running_var + eps), shift = bias - running_mean * scale, computed in double precision; a layer
    without affine parameters has weight 1 and bias 0.

    Source: Ioffe and Szegedy 2015, algorithm 2.
    """
    mean, variance = figures.columns.get("running_mean"), figures.columns.get("running_var")
    if mean is None or variance is None:
        return "no running statistics"
    if figures.eps is None:
        return "no eps"
    lost = {role for role, ref in figures.norm.tensors.items() if role in ROLES} - set(figures.columns)
    if figures.norm.affine:
        lost |= {"weight", "bias"} - set(figures.columns)
    if lost:
        return f"no {' and '.join(sorted(lost))}"
    weight = figures.columns.get("weight", [1.0] * len(mean))
    bias = figures.columns.get("bias", [0.0] * len(mean))
    if len({len(mean), len(variance), len(weight), len(bias)}) != 1:
        return "tensors of different lengths"
    scale = tuple(gamma * _inverse_root(value + figures.eps) for gamma, value in zip(weight, variance, strict=True))
    shift = tuple(beta - centre * factor for beta, centre, factor in zip(bias, mean, scale, strict=True))
    return Fold(scale=scale, shift=shift)


def _inverse_root(value: float) -> float:
    if value > 0.0:
        return 1.0 / math.sqrt(value)
    return math.inf if value == 0.0 else math.nan


def as_single(value: float) -> float:
    """Return the float32 nearest to `value`."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def digits(value: float, double: bool) -> str:
    """Return `value` so that reading it back gives the same float32 (or float64): at most 9 (or 17) digits."""
    return f"{value:.17g}" if double else f"{as_single(value):.9g}"
