"""Between which whole numbers the elements of cells lie: what tells which part of a table an index can reach.

The form of a number less its low end is kept beside it. Where samples lie one after another in a table, an index is the
place at which its own sample begins plus something that is the same function of every sample.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bn_audit.flow.tokens import Bits, mixed, token

Numbers = NDArray[np.float64]

LARGEST = 2.0**53
"""Whole numbers up to it are exact in float64."""


@dataclass(frozen=True, slots=True)
class Span:
    """The range of each cell of a grid.

    Attributes:
        of: The forms of the cells that the span belongs to: whatever makes new forms leaves it behind.
        low: Lowest value, of the grid's shape.
        high: Highest value.
        rest: Form of the value less `low`; zero where there is but one value.
    """

    of: Bits
    low: Numbers
    high: Numbers
    rest: Bits

    @property
    def is_exact(self) -> NDArray[np.bool_]:
        """Where there is but one value."""
        result: NDArray[np.bool_] = self.low == self.high
        return result


def span_of(forms: Bits, low: Numbers, high: Numbers, rest: Bits) -> Span | None:
    """Return a span, its arrays of the shape of `forms`; None where it is too wide to be whole numbers."""
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return None
    if low.size and max(abs(float(low.min())), abs(float(high.max()))) > LARGEST:
        return None
    shape = forms.shape
    rest = np.where(low == high, np.uint64(0), rest)
    return Span(forms, np.broadcast_to(low, shape), np.broadcast_to(high, shape), np.broadcast_to(rest, shape))


def between(forms: Bits, low: float, high: float) -> Span | None:
    """Return the same range for every cell."""
    return span_of(forms, np.full(forms.shape, float(low)), np.full(forms.shape, float(high)), forms)


def moved(span: Span | None, forms: Bits, move: Callable[[NDArray[Any]], NDArray[Any]]) -> Span | None:
    """Return the span of cells that were moved, `forms` being the moved forms."""
    if span is None:
        return None
    return Span(forms, move(span.low), move(span.high), move(span.rest))


def marked(span: Span, pattern: int, lines: int) -> Span:
    """Return the span with the axes marked along which it does not vary, of `lines` axes of the result."""
    if pattern == (1 << lines) - 1:
        return span
    return replace(span, rest=np.where(span.rest == 0, span.rest, mixed(span.rest, token("pattern", pattern))))


def sum_of(forms: Bits, left: Span, right: Span, *, minus: bool) -> Span | None:
    """Return the span of a sum or difference of cells on one grid."""
    if minus:
        exact = right.is_exact
        low = np.where(exact, left.low - right.low, left.low - right.high)
        rest = np.where(exact, left.rest, mixed(mixed(left.rest, right.rest), token("less")))
        return span_of(forms, low, left.high - right.low, rest)
    alone = np.where(right.rest == 0, left.rest, mixed(mixed(left.rest, right.rest), token("plus")))
    rest = np.where(left.rest == 0, right.rest, alone)
    return span_of(forms, left.low + right.low, left.high + right.high, rest)


def product_of(forms: Bits, left: Span, right: Span) -> Span | None:
    """Return the span of a product of cells on one grid."""
    ends = [a * b for a in (left.low, left.high) for b in (right.low, right.high)]
    low, high = np.minimum.reduce(ends), np.maximum.reduce(ends)
    rest = mixed(mixed(left.rest, right.rest), token("times"))
    for one, other in ((left, right), (right, left)):
        scale = np.where(one.is_exact & (one.low > 0), one.low, 0).astype(np.uint64)
        rest = np.where(scale > 0, np.where(scale == 1, other.rest, mixed(other.rest, scale)), rest)
    return span_of(forms, low, high, rest)


def compared(operator: str, left: Span, right: Span) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return where a comparison certainly holds and where it certainly does not, whatever the data."""
    match operator:
        case "Less":
            return left.high < right.low, left.low >= right.high
        case "LessOrEqual":
            return left.high <= right.low, left.low > right.high
        case "Greater":
            return left.low > right.high, left.high <= right.low
        case "GreaterOrEqual":
            return left.low >= right.high, left.high < right.low
        case _:
            both = left.is_exact & right.is_exact & (left.low == right.low)
            return both, (left.high < right.low) | (left.low > right.high)


def total_of(forms: Bits, span: Span, each: tuple[int, ...], times: int) -> Span | None:
    """Return the span of a sum over axes with a cell for each index and over `times` elements of each cell."""
    low, high = (np.add.reduce(numbers, axis=each, keepdims=True) * times for numbers in (span.low, span.high))
    return span_of(forms, low, high, forms)


def running_total_of(forms: Bits, span: Span, axis: int, count: int) -> Span | None:
    """Return a span for every sum of some consecutive elements along an axis of `count`."""
    low, high = np.minimum(span.low, 0), np.maximum(span.high, 0)
    if span.low.shape[axis] > 1:
        low, high = (np.add.reduce(numbers, axis=axis, keepdims=True) for numbers in (low, high))
    else:
        low, high = low * count, high * count
    return span_of(forms, np.broadcast_to(low, forms.shape), np.broadcast_to(high, forms.shape), forms)
