"""Arrays and tensors of the Python functions: as the model gets them, and across the border to the child process."""

import ml_dtypes
import numpy as np
import pytest
import torch

from bn_audit.errors import UsageError
from bn_audit.measuring.order import Order, order_of
from bn_audit.sampling.arrays import from_tensors
from bn_audit.sampling.dtypes import NAMES, numpy_dtype
from bn_audit.subject.run import Job

ROWS = torch.arange(12.0).reshape(4, 3)


def test_tensors_and_arrays_by_name_or_alone():
    found = from_tensors({"x": ROWS.clone().requires_grad_(), "t": ROWS.T, "n": [1, 2, 3, 4]})
    assert np.array_equal(found["x"], ROWS.numpy())
    assert np.array_equal(found["t"], ROWS.numpy().T)
    assert found["n"].dtype == np.int64
    assert list(from_tensors(ROWS)) == [""]


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(torch.bfloat16, "bfloat16"), (torch.float8_e4m3fn, "float8_e4m3fn"), (torch.float8_e5m2, "float8_e5m2")],
)
def test_types_that_numpy_lacks_keep_their_values(dtype, name):
    (found,) = from_tensors(ROWS.to(dtype)).values()
    assert found.dtype == getattr(ml_dtypes, name)
    assert np.array_equal(found.astype(np.float32), ROWS.to(dtype).float().numpy())


def test_lazily_conjugated_tensors():
    z = torch.complex(ROWS, ROWS + 1)
    (found,) = from_tensors(z.conj()).values()
    assert np.array_equal(found, z.numpy().conj())


@pytest.mark.parametrize(
    "value",
    [
        "text",
        object(),
        [[1], [2, 3]],
        np.array(["a"]),
        np.zeros(3, dtype="V3"),
        ROWS.to_sparse(),
        None,
    ],
)
def test_what_is_no_array_of_numbers(value):
    with pytest.raises(UsageError, match="input 'x'"):
        from_tensors({"x": value})


@pytest.mark.parametrize("name", NAMES)
def test_every_type_travels_to_the_child_process(name):
    array = np.asarray([[0, 1], [1, 1], [2, 0]]).astype(numpy_dtype(name))
    order = Order(job=Job(source="model", format="onnx"), samples={"x": array, "n": array[0, 0], "none": array[:0]})
    found = order_of(order.line().decode()).samples
    assert found is not None
    for key, value in (order.samples or {}).items():
        assert found[key].dtype == array.dtype
        assert found[key].shape == value.shape
        assert found[key].tobytes() == value.tobytes()
