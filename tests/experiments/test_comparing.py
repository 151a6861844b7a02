"""Differences of outputs, sample by sample, against values worked out by hand."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_audit.experiments._comparing import (
    agree,
    axes_of,
    differences,
    direction,
    first_repeated,
    largest_effect,
    row_of,
    same_bits,
)


def test_each_sample_has_its_own_scale() -> None:
    first = np.array([[1.0, -2.0], [100.0, 50.0]], dtype=np.float32)
    second = np.array([[1.5, -2.0], [101.0, 50.0]], dtype=np.float32)
    absolute, relative = differences(first, second, 0)
    assert absolute.tolist() == [0.5, 1.0]
    assert relative.tolist() == [0.25, 0.01]
    by_column = differences(first.T, second.T, 1)
    assert by_column[1].tolist() == [0.25, 0.01]
    whole = differences(first, second, None)
    assert whole[1].tolist() == [0.01]


@pytest.mark.parametrize(
    "first, second, expected",
    [
        ([math.nan], [math.nan], 0.0),
        ([math.inf], [math.inf], 0.0),
        ([math.inf], [-math.inf], math.inf),
        ([1.0, math.nan], [1.0, 2.0], math.inf),
        ([1.0, 2.0], [1.0, math.nan], math.inf),
        ([math.inf, 2.0], [math.inf, 1.0], 0.5),
        ([0.0, 0.0], [0.0, 3.0], 1.0),
        ([0.0], [-0.0], 0.0),
    ],
)
def test_what_is_not_finite_is_equal_to_itself_only(first: list[float], second: list[float], expected: float) -> None:
    pair = np.array([first], dtype=np.float32), np.array([second], dtype=np.float32)
    assert differences(*pair, 0)[1].tolist() == [expected]


@pytest.mark.parametrize(
    "dtype", [np.float16, np.int64, np.uint8, np.bool_, np.complex64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn]
)
def test_every_element_type_is_compared(dtype: type) -> None:
    first = np.array([[1, 0], [1, 1]]).astype(dtype)
    second = np.array([[1, 0], [0, 1]]).astype(dtype)
    assert same_bits(first, first.copy())
    assert not same_bits(first, second)
    assert differences(first, second, 0)[1].tolist() == [0.0, 1.0]


def test_texts_are_equal_or_not() -> None:
    first, second = np.array([["a"], ["b"]], dtype=object), np.array([["a"], ["c"]], dtype=object)
    assert differences(first, second, 0)[1].tolist() == [0.0, 1.0]
    assert same_bits(first, first.copy())


def test_bits_tell_signs_of_zero_and_types_apart() -> None:
    assert not same_bits(np.float32([0.0]), np.float32([-0.0]))
    assert not same_bits(np.float32([1.0]), np.float64([1.0]))
    assert not same_bits(np.zeros((2, 3)), np.zeros((3, 2)))
    turned = np.arange(6.0).reshape(2, 3).T
    assert same_bits(turned, turned.copy())


def test_other_shapes_and_names_are_infinitely_far() -> None:
    assert largest_effect({"y": np.zeros((2, 3))}, {"y": np.zeros((2, 4))}) == math.inf
    assert largest_effect({"y": np.zeros(2)}, {"z": np.zeros(2)}) == math.inf
    assert largest_effect({}, {}) == 0.0
    assert not agree({"y": np.zeros(2)}, {"z": np.zeros(2)})


@pytest.mark.parametrize(
    "shape, other, expected",
    [
        ((5, 3), (2, 3), 0),
        ((3, 5), (3, 2), 1),
        ((5, 5), (2, 5), 0),
        ((5, 5), (5, 2), 1),
        ((5, 5), (2, 2), 0),
        ((5, 4), (5, 4), None),
        ((7,), (7,), None),
        ((), (), None),
        ((5, 1), (1,), 0),
    ],
)
def test_the_axis_of_samples_is_the_one_that_follows_their_number(
    shape: tuple[int, ...], other: tuple[int, ...], expected: int | None
) -> None:
    found = axes_of({"y": np.zeros(shape)}, 5, ({"y": np.zeros(other)}, 2), (0,))
    assert found == {"y": expected}


def test_without_another_size_the_preferred_axis_decides() -> None:
    outputs = {"y": np.zeros((5, 5, 5))}
    assert axes_of(outputs, 5, None, (1, 0)) == {"y": 1}
    assert axes_of(outputs, 5, None, (3,)) == {"y": None}
    assert axes_of({"y": np.zeros((4, 5))}, 5, None, (0,)) == {"y": 1}


def test_rows_are_taken_along_their_axis() -> None:
    x = np.arange(12).reshape(3, 4)
    assert row_of({"y": x, "loss": np.zeros(())}, {"y": 1, "loss": None}, 2)["y"].ravel().tolist() == [2, 6, 10]
    assert first_repeated({"y": x}, {"y": 1})["y"].tolist() == [[0] * 4, [4] * 4, [8] * 4]


def test_direction_is_the_cosine_of_two_differences() -> None:
    zero, right, up = ({"y": np.array(point, dtype=np.float32)} for point in ([0.0, 0.0], [2.0, 0.0], [0.0, 3.0]))
    assert direction((zero, right), (zero, right)) == pytest.approx(1)
    assert direction((zero, right), (zero, up)) == 0
    assert direction((zero, right), (right, zero)) == pytest.approx(-1)
    assert direction((zero, zero), (zero, up)) == 0


@given(st.lists(st.floats(width=32), min_size=1, max_size=6), st.lists(st.floats(width=32), min_size=1, max_size=6))
def test_nothing_but_equal_values_is_no_difference(first: list[float], second: list[float]) -> None:
    count = min(len(first), len(second))
    left, right = (np.array([values[:count]], dtype=np.float32) for values in (first, second))
    effect = differences(left, right, 0)[1][0]
    assert not math.isnan(effect)
    assert (effect == 0) == np.array_equal(left, right, equal_nan=True)
