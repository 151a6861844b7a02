"""Pickles written by Python itself, in every protocol, are read as equal or inert values."""

import array
import collections
import copyreg
import datetime
import decimal
import enum
import fractions
import io
import pickle
import random
from pathlib import Path

import pytest

from bn_audit.containers.byte_range import range_of_bytes
from bn_audit.containers.inert import ABSENT, Global, InertDict, Instance, PersistentId
from bn_audit.containers.inert_pickle.reading import PickleLimits, StoredBytes, read_pickle, read_pickle_at
from bn_audit.errors import LimitExceededError, MalformedFileError

PROTOCOLS = range(6)


def read(data: bytes) -> object:
    value, end = read_pickle(data, name="test.pkl")
    assert end == len(data)
    return value


PLAIN = {
    "none": None,
    "booleans": [True, False],
    "integers": [0, 1, -1, 255, 256, 65535, 65536, -(2**31), 2**31 - 1, 2**31, -(2**63), 2**64, 2**700, -(2**700)],
    "floats": [0.0, -0.0, 1.5, 1e300, float("inf"), 5e-324],
    "text": ["", "a", "\n\\'\"\x00", "é", "日本", "😀", "\ud800", "x" * 300, "y" * 70_000, "line\nbreak\\u0041"],
    "bytes": [b"", b"a", bytes(range(256)), b"z" * 300, b"w" * 70_000],
    "bytearray": [bytearray(), bytearray(b"abc\xff"), bytearray(300)],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((),), (((1,),),)],
    "lists": [[], [1], list(range(2000)), [[], [[]]]],
    "dicts": [{}, {"a": 1}, {index: str(index) for index in range(1500)}, {None: 1, True: 2, 1.5: 3, b"k": 4}],
    "tuple keys": {(1, "a"): 2, ("b", None, 1.5): 3},
    "sets": [set(), {1, 2}, {"a"}, frozenset(), frozenset({1, 2})],
    "complex": [1 + 2j, complex("inf")],
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", PLAIN)
def test_plain_values_are_equal(name: str, protocol: int) -> None:
    expected = PLAIN[name]
    value = read(pickle.dumps(expected, protocol=protocol))
    assert value == expected
    assert repr(value) == repr(pickle.loads(pickle.dumps(expected, protocol=protocol)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", PLAIN)
def test_the_same_from_a_file_in_windows(name: str, protocol: int) -> None:
    data = b"before" + pickle.dumps(PLAIN[name], protocol=protocol) + b"after"
    value, end = read_pickle_at(range_of_bytes("test.pkl", data), 6)
    assert data[end:] == b"after"
    if name == "bytes" and protocol > 2:
        assert value.pop().length == 70_000
        value.append(PLAIN[name][-1])
    assert value == PLAIN[name]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_long_pickle_is_read_over_many_windows(protocol: int) -> None:
    expected = {f"key {index}": [index, float(index), ("x" * (index % 50),)] for index in range(60_000)}
    data = pickle.dumps(expected, protocol=protocol)
    assert len(data) > 1 << 20
    value, end = read_pickle_at(range_of_bytes("test.pkl", data), 0)
    assert value == expected
    assert end == len(data)


@pytest.mark.parametrize("protocol", range(1, 6))
def test_long_bytes_stay_in_the_file(protocol: int) -> None:
    content = bytes(range(256)) * 4096
    data = pickle.dumps({"a": content, "b": 7}, protocol=protocol)
    value, _end = read_pickle_at(range_of_bytes("test.pkl", data), 0)
    assert value["b"] == 7
    stored = value["a"]
    assert isinstance(stored, StoredBytes)
    raw = data[stored.offset : stored.offset + stored.length]
    assert (raw.decode("utf-8").encode("latin-1") if stored.encoding == "latin-1" else raw) == content


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_and_cyclic_values_keep_their_identity(protocol: int) -> None:
    shared = ["shared"]
    cyclic: list[object] = [shared, shared]
    cyclic.append(cyclic)
    looped: dict[str, object] = {}
    looped["self"] = looped
    value = read(pickle.dumps([cyclic, looped], protocol=protocol))
    assert value[0][0] is value[0][1]
    assert value[0][2] is value[0]
    assert value[1]["self"] is value[1]


class Plain:
    def __init__(self) -> None:
        self.number = 3
        self.own = self


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self) -> None:
        self.a, self.b = 1, [2]


class Named(dict):
    pass


class Listed(list):
    pass


class Mode(enum.Enum):
    TRAIN = 1


class Keyword:
    def __new__(cls, *, size: int = 0) -> "Keyword":
        return super().__new__(cls)

    def __getnewargs_ex__(self) -> tuple[tuple[object, ...], dict[str, object]]:
        return (), {"size": 4}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_objects_become_instances(protocol: int) -> None:
    value = read(pickle.dumps(Plain(), protocol=protocol))
    assert isinstance(value, Instance)
    assert value.constructor == Global(__name__, "Plain")
    assert value.type_name == f"{__name__}.Plain"
    assert value.args == ()
    assert value.state["number"] == 3
    assert value.state["own"] is value
    assert repr(value) == f"<inert {__name__}.Plain>"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_dict_and_list_subclasses_keep_what_they_hold(protocol: int) -> None:
    named = Named(a=1, b=2)
    named.note = "attribute"
    value = read(pickle.dumps([named, Listed([1, 2])], protocol=protocol))
    assert value[0].entries == [("a", 1), ("b", 2)]
    assert value[0].state == {"note": "attribute"}
    assert value[1].items == [1, 2]


@pytest.mark.parametrize("protocol", range(2, 6))
def test_slots_and_keyword_arguments(protocol: int) -> None:
    slotted, keyword = read(pickle.dumps([Slotted(), Keyword()], protocol=protocol))
    assert slotted.state == (None, {"a": 1, "b": [2]})
    if protocol >= 4:
        assert keyword.kwargs == {"size": 4}
        assert keyword.constructor == Global(__name__, "Keyword")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_dicts_of_the_library_keep_their_state(protocol: int) -> None:
    ordered = collections.OrderedDict(b=1, a=2)
    ordered._metadata = {"": {"version": 2}}
    values = [ordered, collections.defaultdict(list, k=[1]), collections.Counter("aab"), collections.OrderedDict()]
    found = read(pickle.dumps(values, protocol=protocol))
    assert [type(value) for value in found] == [InertDict] * 4
    assert list(found[0].items()) == [("b", 1), ("a", 2)]
    assert found[0].state == {"_metadata": {"": {"version": 2}}}
    assert found[3].state is ABSENT
    assert [value.type_name for value in found] == [
        "collections.OrderedDict",
        "collections.defaultdict",
        "collections.Counter",
        "collections.OrderedDict",
    ]
    assert found[1] == {"k": [1]}
    assert found[2] == {"a": 2, "b": 1}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_values_of_the_library_are_inert(protocol: int) -> None:
    values = [
        datetime.date(2024, 1, 2),
        decimal.Decimal("1.5"),
        fractions.Fraction(1, 3),
        Mode.TRAIN,
        range(3),
        slice(1, 2),
        array.array("f", [1.0]),
        random.Random(1),
        Path("x"),
        len,
        dict,
    ]
    found = read(pickle.dumps(values, protocol=protocol))
    assert all(type(value) in (Instance, Global) for value in found)
    assert found[3].args in [(1,), (Global(__name__, "Mode"), 1)]
    assert found[-1].name == "dict"


def test_python_2_strings() -> None:
    assert read(b"S'abc'\n.") == "abc"
    assert read(b'S"it\'s\\n\\xe9"\n.') == "it's\né"
    assert read(b"U\x02\xc3\xa9.") == "é"
    assert read(b"T\x01\x00\x00\x00\xff.") == "ÿ"
    assert read(b"I01\n.") is True
    assert read(b"I00\n.") is False
    assert read(b"L12L\n.") == 12


def test_python_2_ordered_dict() -> None:
    data = b"ccollections\nOrderedDict\n((l(lS'b'\naI1\naa(lS'a'\naI2\naatR."
    value = read(data)
    assert isinstance(value, InertDict)
    assert list(value.items()) == [("b", 1), ("a", 2)]


def test_extension_codes_are_placeholders() -> None:
    copyreg.add_extension(__name__, "Plain", 0x1234)
    try:
        data = pickle.dumps(Plain, protocol=2)
    finally:
        copyreg.remove_extension(__name__, "Plain", 0x1234)
    assert read(data) == Global("copyreg", "extension 0x1234")


def test_persistent_ids() -> None:
    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> object:
            return ("storage", 7) if isinstance(value, Plain) else None

    stream = io.BytesIO()
    Pickler(stream, protocol=2).dump([Plain()])
    (found,) = read(stream.getvalue())
    assert isinstance(found, PersistentId)
    assert found.value == ("storage", 7)
    value, _end = read_pickle(stream.getvalue(), name="test.pkl", persistent=lambda identity: ["resolved", identity])
    assert value == [["resolved", ("storage", 7)]]


def test_out_of_band_buffers_are_refused() -> None:
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(pickle.PickleBuffer(bytearray(b"x")), protocol=5, buffer_callback=buffers.append)
    with pytest.raises(MalformedFileError, match="out-of-band buffers"):
        read(data)


def test_a_second_state_is_merged() -> None:
    data = b"cm\nC\n)\x81}X\x01\x00\x00\x00aK\x01sb}X\x01\x00\x00\x00bK\x02sb."
    assert read(data).state == {"a": 1, "b": 2}


def test_several_pickles_in_a_row() -> None:
    data = pickle.dumps([1], protocol=2) + pickle.dumps({"a": 2}, protocol=4)
    first, middle = read_pickle(data, name="test.pkl")
    second, end = read_pickle(data, name="test.pkl", start=middle)
    assert (first, second, end) == ([1], {"a": 2}, len(data))


def test_limits_are_settable_and_named() -> None:
    data = pickle.dumps(list(range(100_000)), protocol=2)
    with pytest.raises(LimitExceededError, match=r"test\.pkl: .* 1 MiB"):
        read_pickle(data, name="test.pkl", limits=PickleLimits(memory=1 << 20))
    with pytest.raises(LimitExceededError, match="stacks more than 10"):
        read_pickle(b"N" * 2000 + b".", name="test.pkl", limits=PickleLimits(depth=10))
    with pytest.raises(LimitExceededError, match="takes longer than"):
        read_pickle(data, name="test.pkl", limits=PickleLimits(seconds=-1.0))
    with pytest.raises(LimitExceededError, match="integer of 9 bytes"):
        read_pickle(pickle.dumps(2**64, protocol=2), name="test.pkl", limits=PickleLimits(integer_bytes=8))
