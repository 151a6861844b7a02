"""How far a norm layer moved between two artifacts."""

from __future__ import annotations

from dataclasses import dataclass

from bn_audit.subject.finding import Location


@dataclass(frozen=True, slots=True, kw_only=True)
class Extreme:
    """The largest difference of one quantity of a layer.

    Attributes:
        size: The difference in the unit of the quantity; may be infinite or NaN.
        channel: Where it is.
        reference: The reference's value there.
        target: The target's value there.
        beyond: How many channels differ by more than the tolerance.
        tolerance: In the unit of `size`: what counts as rounding.
    """

    size: float
    channel: int
    reference: float
    target: float
    beyond: int
    tolerance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A setting or counter of a layer on either side; None: not recorded there."""

    reference: float | None
    target: float | None

    @property
    def tolerance(self) -> float:
        """What counts as the same, relative to the reference's value."""
        return SETTING_TOLERANCE

    @property
    def differs(self) -> bool:
        """True where both sides record it and they differ by more than a cast to float32 explains."""
        if self.reference is None or self.target is None:
            return False
        return abs(self.reference - self.target) > SETTING_TOLERANCE * abs(self.reference)


SETTING_TOLERANCE = 1e-6
"""Relative: formats store eps and momentum as float32, whose spacing is 1.2e-7; 1 - momentum loses another digit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDrift:
    """How far the tensors and settings of one layer moved from the reference to the target.

    A quantity is None where a side lacks the tensor or the lengths differ.

    Attributes:
        reference: Path of the layer in the reference.
        location: The layer in the target.
        num_features: Number of channels C.
        mean: Largest |difference of means| / standard deviation of the reference.
        variance: Largest |natural logarithm of the ratio of variances|.
        weight: Largest |difference of weights| / largest |weight| of the reference's layer.
        bias: Largest |difference of biases| / largest |bias| or |weight| of the reference's layer.
        eps: On either side.
        momentum: On either side, as the weight of the new batch.
        counter: num_batches_tracked on either side.
        rms_mean: Root mean square over the channels of what `mean` takes the largest of.
        rms_variance: Likewise for `variance`.
        equal_statistics: True where means and variances are equal in every channel, bit for bit but for a cast.
        equal_affine: Likewise for weight and bias, at least one of which both have.
        swapped: True where the target's mean is the reference's variance and the other way round.
        dtype_change: Roles whose dtype differs, such as ``running_var: float32 to float16``.
    """

    reference: str
    location: Location
    num_features: int | None
    mean: Extreme | None = None
    variance: Extreme | None = None
    weight: Extreme | None = None
    bias: Extreme | None = None
    eps: Change = Change(reference=None, target=None)
    momentum: Change = Change(reference=None, target=None)
    counter: Change = Change(reference=None, target=None)
    rms_mean: float | None = None
    rms_variance: float | None = None
    equal_statistics: bool | None = None
    equal_affine: bool | None = None
    swapped: bool = False
    dtype_change: tuple[str, ...] = ()

    @property
    def statistics_moved(self) -> bool:
        """True where a mean or variance differs by more than the tolerance."""
        return any(item is not None and item.beyond > 0 for item in (self.mean, self.variance))

    @property
    def affine_moved(self) -> bool:
        """True where a weight or bias differs by more than the tolerance."""
        return any(item is not None and item.beyond > 0 for item in (self.weight, self.bias))

    @property
    def effect(self) -> float:
        """By what the drift table is sorted: the larger of the mean's and the variance's movement; NaN counts most."""
        sizes = [item.size for item in (self.mean, self.variance) if item is not None]
        return max((float("inf") if size != size else size for size in sizes), default=0.0)
