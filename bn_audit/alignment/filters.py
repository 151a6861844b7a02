"""The weight of a convolution or linear layer, one row for each output channel."""

from __future__ import annotations

import math

import numpy as np

from bn_audit.alignment.arrays import Array, flat
from bn_audit.subject.weighted import WeightedLayer

MAX_ELEMENTS = 1 << 26
"""Largest weight whose filters are compared: half a gigabyte as float64; the largest convolution seen has 2^24."""


def is_too_large(layer: WeightedLayer) -> bool:
    """Return whether the weight has more elements than are compared filter by filter."""
    return layer.weight.numel > MAX_ELEMENTS


def lies_transposed(layer: WeightedLayer, other: WeightedLayer | None = None, channels: int | None = None) -> bool:
    """Return whether the outputs lie along the weight's second dimension.

    Args:
        other: The same layer of another artifact: of convolutions it tells, since both store them alike.
        channels: Number of outputs, where known: it tells where nothing else does.
    """
    if layer.transposed is not None:
        return layer.transposed
    shape = layer.weight.shape
    if other is not None and other.transposed is not None and len(shape) > 2:
        return other.transposed
    return channels is not None and shape[0] != channels and shape[1] == channels


def outputs(layer: WeightedLayer, other: WeightedLayer | None = None, channels: int | None = None) -> int:
    """Return the number of output channels."""
    shape = layer.weight.shape
    if lies_transposed(layer, other, channels):
        return shape[1] * _groups(layer, other)
    return shape[0]


def filters(layer: WeightedLayer, other: WeightedLayer | None = None, channels: int | None = None) -> Array:
    """Return the weight with shape (C, elements per output channel); see `lies_transposed` for the arguments."""
    values = flat(layer.weight)
    shape = layer.weight.shape
    if not lies_transposed(layer, other, channels):
        return values.reshape(shape[0], math.prod(shape[1:]))
    groups = _groups(layer, other)
    if groups < 1 or shape[0] % groups:
        groups = 1
    blocks = values.reshape(groups, shape[0] // groups, shape[1], math.prod(shape[2:]))
    return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3)).reshape(groups * shape[1], -1)


def _groups(layer: WeightedLayer, other: WeightedLayer | None) -> int:
    known = layer.groups if layer.groups is not None else other.groups if other is not None else None
    return known if known is not None and known > 0 else 1
