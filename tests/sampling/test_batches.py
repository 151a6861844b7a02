"""Batches: repeatable, distinct, cut and joined along the right axis, moved by exactly one unit in the last place."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sessions import Stub, anything, job

from bn_audit.errors import RunError
from bn_audit.sampling.batches import DrawnBatches
from bn_audit.sampling.dtypes import COMPLEX, FLOATS, INTEGERS, NAMES, SMALL_FLOATS
from bn_audit.sampling.planning import plan_inputs
from bn_audit.subject.run import InputSpec


def plan(*specs, arrays=None, **changes) -> DrawnBatches:
    return plan_inputs(Stub([specs], anything), job(**changes), arrays)


def spec(dtype="float32", shape=("N", 3, 5), name="x", **changes):
    return InputSpec(name=name, dtype=dtype, shape=shape, **changes)


def bits(array):
    return np.ascontiguousarray(array).tobytes()


@pytest.mark.parametrize("dtype", NAMES)
def test_every_type_is_drawn_with_distinct_finite_samples(dtype):
    values = plan(spec(dtype)).draw(6, 3)["x"]
    assert values.dtype.name == dtype
    assert values.shape == (6, 3, 5)
    assert len({bits(row) for row in values}) == 6
    assert np.isfinite(values.astype(np.complex128 if dtype in COMPLEX else np.float64)).all()


@pytest.mark.parametrize("dtype", [*FLOATS, *SMALL_FLOATS[:-1], *COMPLEX])
def test_samples_differ_in_spread_and_scale_moves_them(dtype):
    found = plan(spec(dtype, ("N", 400)))
    wide = np.complex128 if dtype in COMPLEX else np.float64
    spreads = found.draw(30, 0)["x"].astype(wide).std(axis=1)
    assert spreads.max() / spreads.min() > 1.5
    small, large = (found.draw(4, 0, scale)["x"].astype(wide).std() for scale in (0.1, 1.0))
    assert large / small == pytest.approx(10, rel=0.15)


@pytest.mark.parametrize("dtype", ["int64", "bool", "uint8"])
def test_integers_are_not_scaled(dtype):
    found = plan(spec(dtype))
    assert bits(found.draw(4, 0)["x"]) == bits(found.draw(4, 0, 10.0)["x"])
    assert not found.has_floats


def test_the_same_arguments_give_the_same_bits_and_other_seeds_others():
    first, second = plan(spec()), plan(spec())
    assert bits(first.draw(5, 7)["x"]) == bits(second.draw(5, 7)["x"])
    assert bits(first.draw(5, 7)["x"]) != bits(first.draw(5, 8)["x"])
    assert bits(first.draw(5, 7)["x"]) != bits(plan(spec(), seed=1).draw(5, 7)["x"])
    assert bits(plan(spec(), seed=2**70).draw(2, 2**80)["x"])


def test_a_smaller_batch_is_the_beginning_of_a_larger_one():
    found = plan(spec())
    assert bits(found.draw(8, 1)["x"][:3]) == bits(found.draw(3, 1)["x"])


def test_two_inputs_are_not_the_same_numbers():
    batch = plan(spec(name="a"), spec(name="b")).draw(3, 0)
    assert bits(batch["a"]) != bits(batch["b"])


@pytest.mark.parametrize("highest", [1, 2, 7, 30522])
def test_token_ids_stay_in_their_range(highest):
    values = plan(spec("int64", (None, 40), highest=highest)).draw(40, 0)["x"]
    assert 0 <= values.min() <= highest * 0.1
    assert min(highest - 1, highest * 0.9) <= values.max() < highest


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_rows_and_exchanged_rows(data):
    axis = data.draw(st.integers(0, 2))
    count = data.draw(st.integers(1, 6))
    shape: list[int | None] = [3, 4]
    shape.insert(axis, None)
    found = DrawnBatches(
        specs=(spec(shape=tuple(shape), batch_axis=axis), spec(name="table", shape=(2,), batch_axis=None)),
        sources=plan(spec(shape=("N", 3, 4)), spec(name="table", shape=("N", 2))).sources,
        seed=0,
    )
    batch, other = found.draw(count, 0), found.draw(count, 1)
    indices = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=8))
    rows = found.rows(batch, indices)
    moved = np.moveaxis(batch["x"], axis, 0)
    assert np.array_equal(np.moveaxis(rows["x"], axis, 0), np.stack([moved[index] for index in indices]))
    assert rows["table"] is batch["table"]
    index = data.draw(st.integers(0, count - 1))
    before = bits(batch["x"])
    exchanged = np.moveaxis(found.with_row(batch, index, other)["x"], axis, 0)
    for row in range(count):
        source = other if row == index else batch
        assert np.array_equal(exchanged[row], np.moveaxis(source["x"], axis, 0)[row])
    assert bits(batch["x"]) == before


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
def test_jitter_moves_each_number_by_one_unit_in_the_last_place(dtype):
    found = plan(spec(dtype, ("N", 50)))
    batch = found.draw(4, 0)
    part = {"complex64": np.float32, "complex128": np.float64}.get(dtype, np.dtype(dtype).type)
    before, after = (array.view(part) for array in (batch["x"], found.jittered(batch, 1)["x"]))
    up, down = np.nextafter(before, part(np.inf)), np.nextafter(before, part(-np.inf))
    assert ((after == up) | (after == down)).all()
    assert 0.3 < (after == up).mean() < 0.7
    assert bits(found.jittered(batch, 1)["x"]) != bits(found.jittered(batch, 2)["x"])


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_jitter_of_types_that_numpy_lacks(dtype):
    found = plan(spec(dtype, ("N", 50)))
    batch = found.draw(4, 0)
    codes = (batch["x"].view(np.uint16 if dtype == "bfloat16" else np.uint8)).astype(np.int64)
    moved = found.jittered(batch, 1)["x"].view(np.uint16 if dtype == "bfloat16" else np.uint8).astype(np.int64)
    numbers = batch["x"].astype(np.float64) != 0
    assert (np.abs(moved - codes)[numbers] == 1).all()


def test_jitter_leaves_integers_alone():
    found = plan(spec(name="x"), spec("int64", name="n"))
    batch = found.draw(3, 0)
    assert found.has_floats
    assert bits(found.jittered(batch, 0)["n"]) == bits(batch["n"])


def test_real_samples_come_in_their_order_and_each_once():
    rows = np.random.default_rng(0).uniform(0, 1, (10, 6)).astype(np.float32)
    found = plan(spec(shape=("N", 6)), arrays={"x": rows})
    assert bits(found.draw(10, 0)["x"]) == bits(rows)
    for seed in range(1, 10):
        drawn = found.draw(10, seed)["x"]
        assert sorted(map(bits, drawn)) == sorted(map(bits, rows))
        assert not any(bits(now) == bits(before) for now, before in zip(drawn, rows, strict=True))


def test_more_samples_than_there_are_lie_between_the_real_ones():
    rows = np.random.default_rng(0).uniform(-3, 5, (4, 200)).astype(np.float32)
    drawn = plan(spec(shape=("N", 200)), arrays={"x": rows}).draw(20, 0)["x"]
    assert bits(drawn[:4]) == bits(rows)
    assert len({bits(row) for row in drawn}) == 20
    assert drawn.min() >= rows.min()
    assert drawn.max() <= rows.max()


def test_what_belongs_together_is_mixed_together():
    ids = np.repeat(np.arange(1, 5)[:, None], 10, axis=1)
    mask = np.repeat(np.array([1, 2, 3, 4])[:, None], 10, axis=1)
    found = plan(
        spec("int64", (None, 10), name="ids"), spec("int64", (None, 10), name="m"), arrays={"ids": ids, "m": mask}
    )
    batch = found.draw(30, 0)
    assert bits(batch["ids"]) == bits(batch["m"])
    assert set(np.unique(batch["ids"])) == {1, 2, 3, 4}


def test_a_single_real_sample_has_companions_like_it():
    row = np.random.default_rng(0).uniform(0, 1, (1, 50)).astype(np.float32)
    found = plan(spec(shape=("N", 50)), arrays={"x": row})
    assert bits(found.draw(1, 0)["x"]) == bits(row)
    others = found.draw(5, 3)["x"]
    assert len({bits(sample) for sample in (*others, row[0])}) == 6
    assert others.min() >= 0
    assert others.max() <= 1


def test_scaled_real_samples():
    rows = np.ones((4, 3), np.float32)
    assert (plan(spec(shape=("N", 3)), arrays={"x": rows}).draw(2, 0, 10.0)["x"] == 10).all()


def test_images_and_sequences_are_padded_with_zeros_together():
    pair = plan(spec("int64", (None, "seq"), "ids", highest=9), spec("int64", (None, "seq"), "attention_mask"))
    batch = pair.draw(3, 0)
    padded = pair.padded(batch)
    assert padded is not None
    assert padded["ids"].shape == padded["attention_mask"].shape == (3, 24)
    assert np.array_equal(padded["ids"][:, :16], batch["ids"])
    assert not padded["attention_mask"][:, 16:].any()
    image = plan(spec(shape=("N", 3, "h", "w")))
    assert image.padded(image.draw(2, 0))["x"].shape == (2, 3, 96, 96)


def test_fixed_sizes_and_features_have_no_padding():
    for fixed in (plan(spec()), plan(spec(shape=("N", "features")))):
        assert fixed.padded(fixed.draw(2, 0)) is None


def test_integer_types_are_all_covered():
    assert set(INTEGERS) | set(FLOATS) | set(SMALL_FLOATS) | set(COMPLEX) | {"bool"} == set(NAMES)
    assert all(hasattr(ml_dtypes, name) for name in SMALL_FLOATS)


def test_a_batch_that_no_machine_holds_is_refused_before_it_is_drawn():
    found = plan(spec(shape=("N", 3, 2000, 2000)))
    with pytest.raises(RunError, match="a batch of 65536 samples takes 3145728000000 bytes"):
        found.draw(65536, 0)
