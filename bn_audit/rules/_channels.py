"""Which channels of a layer are alive: those whose scale lets anything through."""

from __future__ import annotations

from bn_audit.rules._values import LayerValues

DEAD_GAMMA = 0.01
"""A scale below this share of the layer's largest is taken for zero.

Weight decay drives the scale of a dead channel to 1e-4 and below; the smallest scale of a channel that still carries
signal is seldom under a tenth of the largest.
"""


def live_channels(layer: LayerValues) -> list[int]:
    """Return the channels whose scale is not close to zero; all of them where the layer has no scale."""
    if layer.weight is None:
        return list(range(len(layer.variance.values))) if layer.variance is not None else []
    largest = max(abs(layer.weight.minimum), abs(layer.weight.maximum))
    if largest == 0.0:
        return []
    floor = DEAD_GAMMA * largest
    return [channel for channel, gamma in enumerate(layer.weight.values) if abs(gamma) > floor]
