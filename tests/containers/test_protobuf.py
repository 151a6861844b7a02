"""The reader of protocol buffers against bytes by hand and against the library that writes them."""

from __future__ import annotations

import random

import pytest
from onnx import TensorProto

from bn_audit.containers.byte_range import ByteRange, range_of_bytes
from bn_audit.containers.protobuf import (
    MAX_NUMBERS,
    MAX_TEXT_BYTES,
    OVERLONG,
    Fields,
    Kind,
    MessageType,
    ProtobufReader,
    Span,
    number,
    numbers,
    text,
    texts,
    varints,
)
from bn_audit.errors import LimitExceededError, MalformedFileError

PLAIN = MessageType(
    name="plain",
    build=dict,
    fields={
        1: ("integers", Kind.INTEGER),
        2: ("floats", Kind.FLOAT),
        3: ("doubles", Kind.DOUBLE),
        4: ("texts", Kind.TEXT),
        5: ("notes", Kind.NOTE),
        6: ("blobs", Kind.BYTES),
        7: ("spans", Kind.SPAN),
    },
)
PLAIN.fields[8] = ("inner", PLAIN)


def read(data: bytes) -> Fields:
    found = ProtobufReader(range_of_bytes("file", data)).message(PLAIN, 0, len(data))
    assert isinstance(found, dict)
    return found


def length_delimited(field: int, data: bytes) -> bytes:
    size = bytearray()
    left = len(data)
    while left >= 0x80:
        size.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes((field << 3 | 2,)) + bytes((*size, left)) + data


def test_kinds_of_the_encoding_guide() -> None:
    data = (
        b"\x08\x96\x01"  # 150, the guide's own example
        + b"\x08" + b"\xff" * 9 + b"\x01"  # -1
        + b"\x15\x00\x00\x80\x3f"  # 1.0
        + b"\x19" + b"\x00" * 6 + b"\xf0\x3f"  # 1.0
        + length_delimited(4, b"testing")
        + length_delimited(5, b"note")
        + length_delimited(6, b"\xff\x00")
        + length_delimited(8, b"\x08\x05")
    )  # fmt: skip
    found = read(data)
    assert numbers(found, "integers") == (150, -1)
    assert (found["floats"], found["doubles"], found["blobs"]) == ([1.0], [1.0], [b"\xff\x00"])
    assert (text(found, "texts"), texts(found, "notes")) == ("testing", ("note",))
    assert found["inner"] == [{"integers": [5]}]


def test_packed_and_single_numbers_may_be_mixed() -> None:
    found = read(b"\x08\x03" + length_delimited(1, b"\x04\x96\x01") + length_delimited(2, b"\x00\x00\x80\x3f" * 2))
    assert numbers(found, "integers") == (3, 4, 150)
    assert number(found, "integers") == 150
    assert found["floats"] == [1.0, 1.0]


def test_unknown_fields_are_skipped() -> None:
    assert read(b"\x78\x01" + length_delimited(12, b"anything") + b"\xf5\x01abcd" + b"\x08\x07") == {"integers": [7]}


def test_large_fields_stay_where_they_are() -> None:
    reads: list[tuple[int, int]] = []
    data = length_delimited(7, bytes(1 << 22)) + length_delimited(4, b"end")

    def fetch(offset: int, length: int) -> bytes:
        reads.append((offset, length))
        return data[offset : offset + length]

    source = ByteRange(name="file", size=len(data), fetch=fetch)
    found = ProtobufReader(source).message(PLAIN, 0, len(data))
    assert found == {"spans": [Span(5, 1 << 22)], "texts": ["end"]}
    assert sum(length for _, length in reads) < 1 << 14


@pytest.mark.parametrize("padding", range(4080, 4110))
def test_fields_across_the_edge_of_a_window(padding: int) -> None:
    data = length_delimited(5, b"x" * padding) + b"\x08" + b"\xff" * 9 + b"\x01" + length_delimited(4, b"y" * 9000)
    found = read(data)
    assert numbers(found, "integers") == (-1,)
    assert (len(text(found, "notes")), len(text(found, "texts"))) == (padding, 9000)


def test_text_that_is_none_keeps_its_difference() -> None:
    names = texts(read(length_delimited(4, b"a\xff") + length_delimited(4, b"a\xfe")), "texts")
    assert names == ("a\\xff", "a\\xfe")


def test_lengths_are_capped() -> None:
    long = b"x" * (MAX_TEXT_BYTES + 1)
    assert read(length_delimited(5, long) + length_delimited(6, long)) == {"notes": [], "blobs": []}
    with pytest.raises(LimitExceededError):
        read(length_delimited(4, long))
    found = read(b"\x08\x01" * (MAX_NUMBERS + 9))
    assert found[OVERLONG] == ["integers"]
    found = read(length_delimited(1, b"\x01" * (MAX_NUMBERS + 9)))
    assert found[OVERLONG] == ["integers"]
    assert read(length_delimited(2, bytes(4 * MAX_NUMBERS + 4)))[OVERLONG] == ["floats"]


def test_depth_is_capped() -> None:
    data = b""
    for _ in range(100):
        data = length_delimited(8, data)
    assert read(data)
    with pytest.raises(LimitExceededError, match="nested"):
        read(length_delimited(8, data))


BROKEN = {
    "no value": b"\x08",
    "no length": b"\x22",
    "cut varint": b"\x08\xff",
    "varint of eleven bytes": b"\x08" + b"\xff" * 10 + b"\x01",
    "length beyond the end": b"\x22\x05abc",
    "length beyond every end": b"\x22" + b"\xff" * 9 + b"\x01",
    "cut float": b"\x15\x00\x00",
    "cut double": b"\x19\x00\x00\x00\x00",
    "start of a group": b"\x0b\x0c",
    "field number 0": b"\x00\x00",
    "wire type 7": b"\x0f",
    "inner longer than outer": length_delimited(8, b"\x22\x7f"),
    "text as a number": b"\x20\x01",
    "message as a number": b"\x40\x01",
    "float as a varint": b"\x10\x01",
    "packed floats of seven bytes": length_delimited(2, b"\x00" * 7),
    "packed varint cut off": length_delimited(1, b"\x01\xff"),
    "packed varint of eleven bytes": length_delimited(1, b"\xff" * 10 + b"\x01"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_bytes_that_are_no_message(name: str) -> None:
    with pytest.raises(MalformedFileError, match=r"^file: "):
        read(BROKEN[name])


def test_varints_of_both_signs() -> None:
    assert varints(b"\x00\x7f\x80\x01" + b"\xff" * 9 + b"\x01", "file") == [0, 127, 128, -1]


def test_the_library_agrees_on_random_tensors() -> None:
    generator = random.Random(7)
    for _ in range(200):
        tensor = TensorProto(
            dims=[generator.choice((0, 1, 127, 128, -1, 1 << 40)) for _ in range(generator.randrange(5))],
            name="n" * generator.randrange(300),
            double_data=[generator.random() for _ in range(generator.randrange(4))],
        )
        kind = MessageType(
            name="tensor",
            build=dict,
            fields={1: ("dims", Kind.INTEGER), 8: ("name", Kind.TEXT), 10: ("double_data", Kind.DOUBLE)},
        )
        data = tensor.SerializeToString()
        found = ProtobufReader(range_of_bytes("file", data)).message(kind, 0, len(data))
        assert isinstance(found, dict)
        assert found.get("dims", []) == list(tensor.dims)
        assert text(found, "name") == tensor.name
        assert found.get("double_data", []) == list(tensor.double_data)
