"""Arithmetic on shapes whose sizes may be symbols or unknown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

from bn_audit.subject.graph import Dim

Shape: TypeAlias = tuple[Dim, ...] | None
"""None where not even the rank is known."""


def broadcast(*shapes: Shape) -> Shape:
    """Return the shape of an element-by-element operation."""
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes) or not known:
        return None
    rank = max(map(len, known))
    padded = [(1,) * (rank - len(shape)) + shape for shape in known]
    return tuple(_common(axis) for axis in zip(*padded, strict=True))


def _common(sizes: Sequence[Dim]) -> Dim:
    others = [size for size in sizes if size != 1]
    if not others:
        return 1
    numbers = [size for size in others if isinstance(size, int)]
    if numbers:
        return numbers[0]
    return others[0] if len(set(others)) == 1 else None


def rest(before: Shape, others: Sequence[Dim]) -> Dim:
    """Return the size that a reshape fills in: the elements there are, divided by those of the other axes."""
    if before is None or None in before or None in others:
        return None
    left: list[Dim] = list(before)
    for size in others:
        if isinstance(size, str):
            if size not in left:
                return None
            left.remove(size)
    symbols = [size for size in left if isinstance(size, str)]
    numbers = math.prod(size for size in left if isinstance(size, int))
    divisor = math.prod(size for size in others if isinstance(size, int))
    if divisor <= 0 or numbers % divisor:
        return None
    quotient = numbers // divisor
    if not symbols:
        return quotient
    return symbols[0] if len(symbols) == 1 and quotient == 1 else None


def product(sizes: Sequence[Dim]) -> Dim:
    others = [size for size in sizes if size != 1]
    if len(others) == 1:
        return others[0]
    return (
        math.prod(size for size in others if isinstance(size, int))
        if all(isinstance(size, int) for size in others)
        else None
    )
