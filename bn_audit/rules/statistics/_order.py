"""Whether a layer's mean and variance were stored in each other's place."""

from __future__ import annotations

from bn_audit.rules._values import LayerValues

NEGATIVE_SHARE = 0.2
"""Share of negative entries from which a "variance" is taken for a mean.

A mean over a layer's inputs is negative in about half of the channels; a variance that cancellation or averaging made
negative is so in a few.
"""


def looks_swapped(layer: LayerValues) -> bool:
    """Return whether the variance is negative in many channels while the mean is negative in none."""
    mean, variance = layer.mean, layer.variance
    if mean is None or variance is None or not layer.least_variance < 0.0:
        return False
    if not mean.finite or mean.minimum < 0.0 or mean.is_constant(0.0):
        return False
    negative = sum(1 for value in variance.values if value < 0.0)
    return negative > 1 and negative >= NEGATIVE_SHARE * len(variance.values)
