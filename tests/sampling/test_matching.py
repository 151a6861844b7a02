"""Real samples meet the inputs of a model: names, types, axes, and what does not fit."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from sessions import Stub, anything, job, of_shape

from bn_audit.errors import RunError
from bn_audit.sampling.planning import plan_inputs
from bn_audit.subject.run import InputSpec

X = np.arange(6 * 3 * 4, dtype=np.float32).reshape(6, 3, 4)
IDS = np.arange(30, dtype=np.int64).reshape(6, 5)
PAIR = (
    InputSpec(name="image", dtype="float32", shape=("N", 3, "w")),
    InputSpec(name="input_ids", dtype="int64", shape=("N", None)),
)
ONE = (InputSpec(name="image", dtype="float32", shape=("N", 3, "w"), origin="the graph"),)


def plan(specs, arrays, accepts=anything, **changes):
    return plan_inputs(Stub([specs], accepts), job(**changes), arrays)


@pytest.mark.parametrize(
    "arrays",
    [
        {"image": X, "input_ids": IDS},
        {"labels": np.zeros(6), "input_ids": IDS, "image": X},
        {"Image:0": X, "InputIds": IDS},
        {"arr_0": X, "arr_1": IDS},
    ],
)
def test_arrays_find_their_inputs(arrays):
    batch = plan(PAIR, arrays).draw(6, 0)
    assert np.array_equal(batch["image"], X)
    assert np.array_equal(batch["input_ids"], IDS)


@pytest.mark.parametrize("name", ["", "image", "anything"])
def test_a_single_array_needs_no_name(name):
    assert np.array_equal(plan(ONE, {name: X}).draw(6, 0)["image"], X)


def test_the_file_is_read_and_named(tmp_path):
    np.savez(tmp_path / "s.npz", image=X)
    found = plan_inputs(Stub([ONE], anything), job(inputs_file=str(tmp_path / "s.npz")))
    assert found.specs[0].origin == "6 samples of s.npz"
    assert found.specs[0].shape == (None, 3, 4)


def test_the_shape_of_the_file_wins_over_a_guess():
    guessed = (InputSpec(name="image", dtype="float32", shape=("N", 1, 28, 28), origin="Linear 'fc'"),)
    assert plan(guessed, {"image": X}, of_shape(image=(3, 4))).draw(2, 0)["image"].shape == (2, 3, 4)


def test_double_precision_is_what_numpy_makes_and_not_what_most_models_take():
    guessed = (InputSpec(name="image", dtype="float32", shape=("N", 4)),)
    single = Stub([guessed], lambda batch: None if batch["image"].dtype == np.float32 else "expected float")
    found = plan_inputs(single, job(), {"image": X.astype(np.float64)})
    assert found.specs[0].origin == "6 samples of the given arrays, converted from float64"
    double = Stub([guessed], lambda batch: None if batch["image"].dtype == np.float64 else "expected double")
    assert plan_inputs(double, job(), {"image": X.astype(np.float64)}).specs[0].dtype == "float64"


def test_one_sample_without_the_batch_axis():
    found = plan(ONE, {"image": X[0]})
    assert found.specs[0].origin == "1 sample of the given arrays"
    assert np.array_equal(found.draw(1, 0)["image"][0], X[0])


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (X.astype(np.float64), "float32"),
        (X.astype(np.float32), "float16"),
        (X.astype(np.float32), "bfloat16"),
        (X.astype(np.uint8), "float32"),
        (X.astype(np.int64), "uint8"),
        (X.astype(np.int64), "int32"),
        (X > 3, "float32"),
        ((X > 3).astype(np.int64), "bool"),
    ],
)
def test_types_that_keep_the_meaning_are_converted_and_said(given, dtype):
    found = plan((InputSpec(name="x", dtype=dtype, shape=("N", 3, 4)),), {"x": given})
    values = found.draw(6, 0)["x"]
    assert values.dtype.name == dtype
    assert np.allclose(values.astype(np.float64), given.astype(np.float64), rtol=1e-2)
    assert f"converted from {given.dtype.name}" in found.specs[0].origin


def test_raw_bytes_become_the_type_that_numpy_could_not_write():
    small = X.astype(ml_dtypes.bfloat16)
    values = plan((InputSpec(name="x", dtype="bfloat16", shape=("N", 3, 4)),), {"x": small.view("V2")}).draw(6, 0)["x"]
    assert values.tobytes() == small.tobytes()


@pytest.mark.parametrize(
    ("specs", "arrays", "message"),
    [
        (PAIR, {"image": X}, "has no samples for input 'input_ids'; it holds 'image'"),
        (PAIR, {"": X}, "has no samples for inputs 'image', 'input_ids'; it holds one array without a name"),
        (PAIR, {"image": X, "input_ids": IDS[:4]}, "different numbers of samples ('image' 6, 'input_ids' 4)"),
        (PAIR, {"image": X, "input_ids": IDS + 0.5}, "'input_ids' holds float64, the model takes int64"),
        (ONE, {"image": X[:0]}, "holds no sample"),
        (ONE, {"image": X[None]}, "has 4 axes (1x6x3x4), the model takes 3 with the batch axis (Nx3xw)"),
        (ONE, {"image": X * 1j}, "holds complex numbers"),
        (ONE, {"image": np.where(X == 5, np.nan, X)}, "holds NaN or infinities"),
        (ONE, {"image": X.view("V4")}, "raw bytes of 4 each"),
    ],
)
def test_what_does_not_fit_is_told(specs, arrays, message):
    refuses = Stub([specs], lambda _batch: "wrong input")
    with pytest.raises(RunError) as caught:
        plan_inputs(refuses, job(), arrays)
    assert message in str(caught.value)
    assert "the given arrays" in str(caught.value)


@pytest.mark.parametrize(("given", "dtype"), [(IDS + 300, "uint8"), (IDS - 3, "uint16"), (IDS + 2**40, "int32")])
def test_integers_out_of_range_are_refused(given, dtype):
    refuses = Stub([(InputSpec(name="x", dtype=dtype, shape=("N", 5)),)], lambda _batch: "wrong type")
    with pytest.raises(RunError, match=f"integers that {dtype} cannot"):
        plan_inputs(refuses, job(), {"x": given})


def test_description_and_samples_exclude_each_other():
    with pytest.raises(RunError, match="drop either"):
        plan(ONE, {"image": X}, inputs=("image=float32:3x4",))


def test_samples_on_another_axis():
    rows = np.moveaxis(X, 0, 1)
    found = plan((InputSpec(name="x", dtype="float32", shape=(3, "N", 4)),), {"x": rows}, batch_axis=1)
    assert np.array_equal(found.draw(6, 0)["x"], rows)


def test_a_shared_input_takes_its_array_whole():
    specs = (*ONE, InputSpec(name="table", dtype="float32", shape=(None, 2), batch_axis=None))
    table = np.ones((9, 2), np.float32)
    found = plan(specs, {"image": X, "table": table})
    assert np.array_equal(found.draw(3, 7)["table"], table)
    assert found.draw(3, 7)["image"].shape == (3, 3, 4)
