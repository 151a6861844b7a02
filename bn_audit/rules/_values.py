"""The elements of the norm layers' tensors, loaded once for all rules.

Every rule about statistics asks for the same few tensors. What is loaded for one subject is kept for as long as that
subject lives, so that a tensor is read from the artifact once, however many rules look at it.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from bn_audit.errors import ArtifactError
from bn_audit.subject.finding import Location
from bn_audit.subject.norm import NormLayer
from bn_audit.subject.subject import Subject
from bn_audit.subject.tensor import TensorRef

SMALLEST_NORMAL = 2.0**-126
"""Below this a float32 or bfloat16 holds a subnormal number or zero."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One value for each channel.

    Attributes:
        dtype: As stored.
        values: The elements as Python numbers, at least one.
        finite: No NaN and no infinity among them.
    """

    dtype: str
    values: Sequence[float]
    finite: bool

    @cached_property
    def minimum(self) -> float:
        """The smallest finite element; NaN where there is none."""
        return min(self._judged, default=math.nan)

    @cached_property
    def maximum(self) -> float:
        """The largest finite element; NaN where there is none."""
        return max(self._judged, default=math.nan)

    @property
    def _judged(self) -> Sequence[float]:
        return self.values if self.finite else [value for value in self.values if math.isfinite(value)]

    def is_constant(self, value: float) -> bool:
        """Return whether every element equals `value` exactly."""
        return self.values[0] == value and self.values.count(value) == len(self.values)

    @property
    def is_uniform(self) -> bool:
        """True where all channels have one and the same finite value."""
        return self.finite and self.is_constant(self.values[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerValues:
    """The tensors of one layer; None where the layer does not have the tensor, or where it has no real numbers.

    Attributes:
        least_variance: The least finite variance; NaN where there is none, so that every comparison is False.
        counter: Number of training-mode forward passes; None where it is no scalar.
    """

    norm: NormLayer
    weight: Column | None
    bias: Column | None
    mean: Column | None
    variance: Column | None
    least_variance: float
    counter: float | None

    @property
    def columns(self) -> dict[str, Column]:
        """The tensors by the role they have in the layer."""
        roles = {"weight": self.weight, "bias": self.bias, "running_mean": self.mean, "running_var": self.variance}
        return {role: column for role, column in roles.items() if column is not None}

    @property
    def is_consistent(self) -> bool:
        """True where all tensors have one length and are finite, so that channels can be compared."""
        columns = self.columns.values()
        return len({len(column.values) for column in columns}) <= 1 and all(column.finite for column in columns)

    @property
    def variance_location(self) -> Location:
        """Where a finding about the running variances points."""
        return replace(self.norm.location, tensor="running_var")

    @property
    def has_initial_statistics(self) -> bool:
        """True where the statistics are mean 0 and variance 1 in every channel, as torch initialises them."""
        return (
            self.mean is not None
            and self.variance is not None
            and self.mean.is_constant(0.0)
            and self.variance.is_constant(1.0)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """What could be loaded.

    Attributes:
        layers: Every layer whose tensors could all be loaded, in the artifact's order.
        errors: Why the others could not.
    """

    layers: tuple[LayerValues, ...]
    errors: tuple[ArtifactError, ...]

    def batch_norms_by_model(self) -> dict[str, list[LayerValues]]:
        """Return the layers whose training mode means statistics over the batch, by the route of their model."""
        groups: dict[str, list[LayerValues]] = {}
        for layer in self.layers:
            if layer.norm.kind.is_batch_norm:
                groups.setdefault(layer.norm.model, []).append(layer)
        return groups

    def raise_for_errors(self) -> None:
        """Raise where a layer could not be judged; to be called when everything else has been reported.

        Raises:
            ArtifactError: the first reason.
        """
        if self.errors:
            raise self.errors[0]


_latest: list[tuple[weakref.ref[Subject], Values]] = []


def values_of(subject: Subject) -> Values:
    """Return the elements of all norm layers' tensors; a second call for the same subject reads nothing."""
    for known, values in _latest:
        if known() is subject:
            return values
    values = _load(subject)
    _latest[:] = [(weakref.ref(subject, lambda _: _latest.clear()), values)]
    return values


def _load(subject: Subject) -> Values:
    layers: list[LayerValues] = []
    errors: list[ArtifactError] = []
    for norm in subject.norms:
        if norm.uninitialised:
            continue
        try:
            layers.append(_load_layer(norm))
        except ArtifactError as error:
            errors.append(error)
    return Values(layers=tuple(layers), errors=tuple(errors))


def _load_layer(norm: NormLayer) -> LayerValues:
    variance = _column(norm.running_var)
    return LayerValues(
        norm=norm,
        weight=_column(norm.weight),
        bias=_column(norm.bias),
        mean=_column(norm.running_mean),
        variance=variance,
        least_variance=math.nan if variance is None else variance.minimum,
        counter=_scalar(norm.num_batches_tracked),
    )


def _column(ref: TensorRef | None) -> Column | None:
    if ref is None or ref.numel == 0 or ref.dtype.startswith("complex"):
        return None
    values = ref.values()
    # NaN and infinity survive a sum, so one pass at C speed clears the usual case; finite doubles may still overflow.
    finite = math.isfinite(sum(values)) or all(map(math.isfinite, values))
    return Column(dtype=ref.dtype, values=values, finite=finite)


def _scalar(ref: TensorRef | None) -> float | None:
    if ref is None or ref.numel != 1:
        return None
    return ref.values()[0]
