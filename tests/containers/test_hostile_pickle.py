"""Pickles that would run code, exhaust memory or crash the interpreter are read as data or refused."""

import contextlib
import copyreg
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bn_audit.containers.byte_range import range_of_bytes
from bn_audit.containers.inert import Global, Instance
from bn_audit.containers.inert_pickle.reading import PickleLimits, read_pickle, read_pickle_at
from bn_audit.errors import ArtifactError, LimitExceededError, MalformedFileError

SMALL = PickleLimits(memory=16 << 20)


def read(data: bytes, limits: PickleLimits = SMALL) -> object:
    return read_pickle(data, name="hostile.pkl", limits=limits)[0]


class Attack:
    """Calls what it is told to when it is unpickled."""

    def __init__(self, function: object, *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


class Rebuilt:
    """Would call `__setstate__` if it were built."""

    def __setstate__(self, state: dict[str, str]) -> None:
        Path(state["path"]).touch()


class Created:
    """Would run code when created."""

    def __new__(cls, path: str = "", *, other: str = "") -> "Created":
        Path(path or other).touch()
        return super().__new__(cls)


def text(path: Path) -> bytes:
    return b"V" + str(path).encode() + b"\n"


def attacks(canary: Path) -> dict[str, bytes]:
    here = __name__.encode()
    python = f"open({str(canary)!r}, 'w').close()"
    command = f"echo > {str(canary)!r}"
    built = b"c" + here + b"\nRebuilt\n)\x81}Vpath\n" + text(canary) + b"sb."
    return {
        "system": pickle.dumps(Attack(os.system, command)),
        "system protocol 0": b"cos\nsystem\n(V" + command.encode() + b"\ntR.",
        "exec": pickle.dumps(Attack(exec, python)),
        "eval": pickle.dumps(Attack(eval, python)),
        "method": pickle.dumps(Attack(Path.touch, canary)),
        "chain": pickle.dumps(Attack(eval, f"[{python}]")),
        "inst": b"(V" + command.encode() + b"\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nV" + command.encode() + b"\no.",
        "newobj": b"c" + here + b"\nCreated\n" + text(canary) + b"\x85\x81.",
        "newobj_ex": b"\x80\x04c" + here + b"\nCreated\n)}Vother\n" + text(canary) + b"s\x92.",
        "build": built,
        "reconstructor": b"ccopy_reg\n__newobj__\n(c" + here + b"\nCreated\n" + text(canary) + b"tR.",
        "extension": b"\x80\x02\x82\xf7V" + str(canary).encode() + b"\n\x85R.",
        "nested": pickle.dumps({"state_dict": [Attack(os.system, command)]}, protocol=2),
        "dict key": b"}cos\nsystem\n(V" + command.encode() + b"\ntRNs.",
    }


@pytest.mark.parametrize("name", attacks(Path("x")))
def test_nothing_runs(tmp_path: Path, name: str) -> None:
    canary = tmp_path / "canary"
    data = attacks(canary)[name]
    copyreg.add_extension("_io", "FileIO", 0xF7)
    try:
        before = set(sys.modules)
        value = read(data)
        assert not canary.exists()
        assert {module for module in set(sys.modules) - before if not module.startswith("encodings.")} == set()
        assert isinstance(value, Instance | dict)
        # The attack is a real one: Python's own unpickler falls for it.
        if name != "extension":
            pickle.loads(data)
            assert canary.exists()
    finally:
        copyreg.remove_extension("_io", "FileIO", 0xF7)


def test_nothing_is_imported() -> None:
    for module in ("this", "antigravity", "bn_audit_no_such_module", "os.path\x00", "../../evil", ""):
        value = read(pickle.dumps(module, protocol=2)[:-1] + b"X\x04\x00\x00\x00name\x93)R.")
        assert value.constructor == Global(module, "name")
    assert "this" not in sys.modules
    assert "antigravity" not in sys.modules


ODD_TARGETS = [b"Vtext\n", b"K\x07", b"N", b"\x88", b"cos\nsystem\n", b"]", b")", b"\x8f", b"G" + bytes(8), b"C\x01a"]


@pytest.mark.parametrize("target", ODD_TARGETS)
@pytest.mark.parametrize(
    "operation", [b"Nb", b"}b", b"Na", b"(NNe", b"NNs", b"(NNNNu", b"(N\x90", b")b", b"NR", b"N\x81"]
)
def test_operations_on_odd_targets_do_nothing_harmful(target: bytes, operation: bytes) -> None:
    try:
        value = read(target + operation + b".")
    except MalformedFileError:
        return
    if isinstance(value, list):
        assert value in ([], [None], [None, None])
    elif isinstance(value, Instance):
        assert operation in (b"NR", b"N\x81")
    else:
        assert value == read(target + b".") or value == {None}


@pytest.mark.parametrize(
    "data",
    [
        b"r\xff\xff\xff\xff.",
        b"Nr\xff\xff\xff\xff.",
        b"Np99999999999999999999\n.",
        b"Nr\xff\xff\xff\xffj\xff\xff\xff\xff.",
    ],
)
def test_memo_indexes_cost_nothing(data: bytes) -> None:
    try:
        assert read(data, PickleLimits(memory=1 << 20)) is None
    except MalformedFileError:
        assert data.startswith(b"r")


LENGTHS = [
    b"X\xff\xff\xff\xff",
    b"B\xff\xff\xff\xff",
    b"T\xff\xff\xff\x7f",
    b"T\xff\xff\xff\xff",
    b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x96\xff\xff\xff\xff\xff\xff\x00\x00",
    b"\x8b\xff\xff\xff\x7f",
    b"\x8b\xff\xff\xff\xff",
    b"\x95\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x8c\xff",
    b"U\xff",
    b"C\xff",
    b"\x8a\xff",
]


@pytest.mark.parametrize("data", LENGTHS)
def test_absurd_lengths_are_refused_before_they_are_used(data: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"hostile\.pkl"):
        read(data + b"abc.")
    with pytest.raises(ArtifactError, match=r"hostile\.pkl"):
        read_pickle_at(range_of_bytes("hostile.pkl", data + b"abc."), 0, limits=SMALL)


def test_long_numbers_are_refused() -> None:
    digits = b"9" * 1_000_000
    for data in (b"L" + digits + b"L\n.", b"I" + digits + b"\n.", b"F" + digits + b"\n.", b"g" + digits + b"\n."):
        with pytest.raises(LimitExceededError):
            read(data)


def nested(opcode: bytes, depth: int) -> dict[str, bytes]:
    return {
        "tuples": b")" + b"\x85" * depth,
        "lists": b"]" * depth + b"a" * (depth - 1),
        "dicts": b"}N" * depth + b"N" + b"s" * depth,
        "instances": b"cm\nC\nq\x00" + b")R" * depth,
        "states": b"cm\nC\nq\x00)R" + b"q\x010h\x00)Rh\x01b" * depth,
        "marks": b"(" * depth + b"t" * depth,
        "persistent ids": b"N" + b"Q" * depth,
        "frozensets": b"(" * depth + b"\x91" * depth,
    }


DEPTH = 300_000


@pytest.mark.parametrize("kind", nested(b"", 1))
def test_deep_nesting_neither_recurses_nor_crashes(kind: str) -> None:
    data = nested(b"", DEPTH)[kind] + b"."
    value = read(data, PickleLimits())
    assert value is not None
    del value  # deallocation must not recurse either


@pytest.mark.parametrize("kind", ["tuples", "frozensets", "instances", "persistent ids"])
def test_deep_values_can_be_keys(kind: str) -> None:
    deep = nested(b"", DEPTH)[kind]
    value = read(b"}" + deep + b"Ns.", PickleLimits())
    (key,) = value
    assert isinstance(key, Instance) or kind == "persistent ids"
    assert value[key] is None


def test_unhashable_keys_are_malformed() -> None:
    for key in (b"]", b"}", b"\x8f", b"ccollections\nOrderedDict\n)R", b"\x96" + bytes(8)):
        with pytest.raises(MalformedFileError, match="key of a dictionary"):
            read(b"}" + key + b"Ns.")
        with pytest.raises(MalformedFileError, match="key of a dictionary"):
            read(b"\x8f(" + key + b"\x90.")


def test_cyclic_tuples_as_keys() -> None:
    # A tuple that holds a list that holds the tuple, used as a key.
    assert len(read(b"}]q\x00\x85q\x01h\x000h\x01Ns.")) == 1


def test_colliding_keys_do_not_take_quadratic_time() -> None:
    modulus = sys.hash_info.modulus
    numbers = b"".join(b"\x8a\x10" + ((index + 1) * modulus).to_bytes(16, "little") + b"N" for index in range(60_000))
    tuples = b"".join(
        b"(" + b"".join(b"J" + struct.pack("<i", -1 - (index >> bit & 1)) for bit in range(8)) + b"tN"
        for index in range(256)
    )
    value = read(b"}(" + numbers + tuples + b"u.", PickleLimits(seconds=20))
    assert len(value) == 60_256


BOMBS = {
    "sets": b"\x8f" * 400_000,
    "dicts": b"}" * 400_000,
    "memo": b"N" + b"\x94" * 1_000_000,
    "sparse memo": b"N" + b"".join(b"r" + struct.pack("<I", 2 * index + 5) for index in range(200_000)),
    "instances": b"cm\nC\nq\x00" + b"h\x00)R" * 100_000,
    "copies of a list": b"c__builtin__\nlist\nq\x00(" + b"N" * 100_000 + b"lq\x01" + b"h\x00h\x01\x85R" * 100_000,
    "copies of a set": b"c__builtin__\nset\nq\x00(" + b"K\x01" * 100_000 + b"lq\x01" + b"h\x00h\x01\x85R" * 100_000,
    "copies of a dict": b"ccollections\nOrderedDict\nq\x00}(" + b"K\x01N" * 9_000 + b"K\x02Nuq\x01"
    + b"h\x00h\x01\x85R" * 400_000,
    "merged states": b"cm\nC\n)R}(" + b"".join(b"M" + struct.pack("<H", index) + b"N" for index in range(60_000))
    + b"uq\x01b" + b"h\x01b" * 100_000,
    "pairs": b"c__builtin__\ndict\nq\x00(" + b"NN\x86" * 50_000 + b"lq\x01" + b"h\x00h\x01\x85R" * 100_000,
    "globals": b"".join(b"cm%d\nC\n" % index for index in range(100_000)),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused(name: str) -> None:
    with pytest.raises(LimitExceededError, match=r"hostile\.pkl: the pickle builds more values than the 16 MiB"):
        read(BOMBS[name] + b".")


def test_memory_stays_bounded_at_the_default_limits() -> None:
    resource = pytest.importorskip("resource")
    program = textwrap.dedent("""
        import resource, sys
        resource.setrlimit(resource.RLIMIT_AS, (1536 << 20,) * 2)
        from bn_audit.containers.inert_pickle.reading import read_pickle
        from bn_audit.errors import LimitExceededError
        bombs = {
            "sets": b"\\x8f" * 3_000_000,
            "copies": b"c__builtin__\\nlist\\nq\\x00(" + b"N" * 1_000_000 + b"lq\\x01" + b"h\\x00h\\x01\\x85R" * 2000,
        }
        for name, bomb in bombs.items():
            try:
                read_pickle(bomb + b".", name=name)
            except LimitExceededError as error:
                print(name, "refused")
        try:  # ru_maxrss counts what the parent had before this process was started
            with open("/proc/self/status") as status:
                print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) * 1024)
        except OSError:
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
    """)
    assert resource is not None
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    *refused, peak = done.stdout.split("\n")[:-1]
    assert refused == ["sets refused", "copies refused"]
    assert int(peak) < 640 << 20


FRAGMENTS = [bytes([ord(opcode.code)]) for opcode in pickletools.opcodes]
OPERANDS = [
    b"\x00", b"\x01", b"\x02\x00", b"\x03\x00\x00\x00", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00\x00\x00\x00\x00",
    b"1\n", b"0\n", b"'a'\n", b"os\nsystem\n", b"collections\nOrderedDict\n", b"__builtin__\nset\n",
    b"_codecs\nencode\n", b"copy_reg\n_reconstructor\n", b"ab", b"latin1", b"X\x01\x00\x00\x00a", b"h\x00", b"q\x00",
]  # fmt: skip


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.sampled_from(OPERANDS), st.binary(max_size=6)), max_size=60))
@example([b"(", b"R"])
@example([b"(", b")", b"R", b"t"])
def test_random_opcodes_give_a_value_or_our_error(parts: list[bytes]) -> None:
    data = b"".join(parts) + b"."
    outcomes = []
    for reading in (
        lambda: read(data),
        lambda: read_pickle_at(range_of_bytes("hostile.pkl", data), 0, limits=SMALL)[0],
    ):
        try:
            reading()
            outcomes.append("value")
        except ArtifactError as error:
            assert "hostile.pkl" in str(error)
            outcomes.append("error")
    assert outcomes[0] == outcomes[1]


REAL = [
    pickle.dumps({"a": [1, 2.5, None, True], "b": ("x", b"y", {3, 4}), "c": Rebuilt()}, protocol=p) for p in range(6)
]


@settings(max_examples=600, deadline=None, derandomize=True)
@given(st.sampled_from(REAL), st.data())
def test_mutated_pickles_give_a_value_or_our_error(data: bytes, choose: st.DataObject) -> None:
    mutated = bytearray(data)
    for _ in range(choose.draw(st.integers(1, 4))):
        mutated[choose.draw(st.integers(0, len(data) - 1))] = choose.draw(st.integers(0, 255))
    with contextlib.suppress(ArtifactError):
        read(bytes(mutated))


@pytest.mark.parametrize("data", REAL)
def test_truncation_at_every_byte(data: bytes) -> None:
    for length in range(len(data)):
        with pytest.raises(MalformedFileError, match="truncated"):
            read(data[:length])
        with pytest.raises(MalformedFileError, match="truncated"):
            read_pickle_at(range_of_bytes("hostile.pkl", data[:length]), 0)
