import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bn_audit.containers.strided import MAX_GATHERED_ELEMENTS, check_extent, contiguous_bytes
from bn_audit.errors import LimitExceededError, MalformedFileError

NUMPY = {
    "bool": "u1",
    "float8_e5m2": "u1",
    "bfloat16": "u2",
    "float16": "f2",
    "float32": "f4",
    "int64": "i8",
    "float64": "f8",
    "complex64": "c8",
    "complex128": "c16",
}


def gathered(raw: bytes, **options: object) -> bytes:
    def read(offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= len(raw)
        return raw[offset : offset + length]

    options = {"name": "t", "offset": 0, "storage_bytes": len(raw)} | options
    return contiguous_bytes(read, **options)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_any_view_equals_numpy(choose: st.DataObject) -> None:
    dtype = choose.draw(st.sampled_from(sorted(NUMPY)))
    big_endian = choose.draw(st.booleans())
    code = np.dtype(NUMPY[dtype]).newbyteorder(">" if big_endian else "<")
    raw = bytes(np.random.default_rng(1).integers(0, 256, 200 * code.itemsize, dtype="u1"))
    dimensions = choose.draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12)), max_size=4))
    shape, strides = tuple(length for length, _ in dimensions), tuple(stride for _, stride in dimensions)
    offset = choose.draw(st.integers(0, 8))
    storage = np.frombuffer(raw, code)
    view = np.lib.stride_tricks.as_strided(storage[offset:], shape, tuple(stride * code.itemsize for stride in strides))
    expected = np.ascontiguousarray(view).astype(code.newbyteorder("<")).tobytes()
    found = gathered(raw, dtype=dtype, shape=shape, strides=strides, offset=offset, big_endian=big_endian)
    assert found == expected


def test_only_the_range_of_the_elements_is_read() -> None:
    ranges: list[tuple[int, int]] = []

    def read(offset: int, length: int) -> bytes:
        ranges.append((offset, length))
        return bytes(length)

    options = {"name": "t", "dtype": "float32", "offset": 1000, "storage_bytes": 1 << 40}
    contiguous_bytes(read, shape=(2, 3), strides=(10, 1), **options)
    contiguous_bytes(read, shape=(0, 3), strides=(10, 1), **options)
    assert ranges == [(4000, 4 * 13)]


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((5,), (1,), 0), ((4,), (1,), 1), ((2, 2), (3, 1), 0), ((-1,), (1,), 0), ((1,), (-1,), 0), ((1,), (1,), -1)],
)
def test_what_lies_outside_is_malformed(shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> None:
    with pytest.raises(MalformedFileError, match="t: "):
        check_extent(name="t", size=4, shape=shape, strides=strides, offset=offset, storage_bytes=16)
    with pytest.raises(MalformedFileError, match="impossible tensor"):
        check_extent(name="t", size=4, shape=(1, 2), strides=(1,), offset=0, storage_bytes=16)


def test_the_last_element_may_end_with_the_storage() -> None:
    check_extent(name="t", size=4, shape=(2, 2), strides=(2, 1), offset=0, storage_bytes=16)
    check_extent(name="t", size=4, shape=(4,), strides=(0,), offset=3, storage_bytes=16)
    check_extent(name="t", size=4, shape=(0,), strides=(1,), offset=0, storage_bytes=0)


def test_huge_rearrangements_are_refused_before_anything_is_read() -> None:
    def read(_offset: int, _length: int) -> bytes:
        raise AssertionError("read")

    options = {"name": "t", "dtype": "float32", "offset": 0, "storage_bytes": 1 << 60}
    for shape, strides in (
        ((MAX_GATHERED_ELEMENTS + 1,), (0,)),
        ((2,), (MAX_GATHERED_ELEMENTS,)),
        ((1 << 20, 1 << 20), (1, 1 << 20)),
    ):
        with pytest.raises(LimitExceededError, match="not rearranged"):
            contiguous_bytes(read, shape=shape, strides=strides, **options)


def test_a_large_transposition_is_quick() -> None:
    matrix = np.arange(1 << 20, dtype="f4").reshape(1 << 10, 1 << 10)
    started = time.perf_counter()
    found = gathered(matrix.tobytes(), dtype="float32", shape=(1 << 10, 1 << 10), strides=(1, 1 << 10))
    assert found == np.ascontiguousarray(matrix.T).tobytes()
    assert time.perf_counter() - started < 2.0
