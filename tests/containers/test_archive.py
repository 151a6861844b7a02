import io
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bn_audit.containers.archive import Archive
from bn_audit.containers.archive_directory import MAX_DIRECTORY_BYTES
from bn_audit.containers.byte_range import ByteRange, range_of_bytes
from bn_audit.containers.source import Source
from bn_audit.errors import ArtifactError, LimitExceededError, MalformedFileError


def pack(members: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.comment = comment
    return stream.getvalue()


def opened(data: bytes) -> Archive:
    return Archive(range_of_bytes("test.zip", data))


MEMBERS = {"root/data.pkl": b"pickle", "root/data/0": bytes(100), "root/empty": b"", "root/日本": b"name"}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("comment", [b"", b"a comment", bytes(65535)])
def test_members_are_read(compression: int, comment: bytes) -> None:
    archive = opened(pack(MEMBERS, compression=compression, comment=comment))
    assert list(archive.members) == list(MEMBERS)
    assert archive.root == "root/"
    for name, content in MEMBERS.items():
        assert archive.read(name, limit=1000) == content
        member = archive.range_of(name, limit=1000)
        assert member.read(0, member.size) == content
        assert member.name == f"test.zip: {name}"


def test_offsets_of_stored_members() -> None:
    data = pack({"a": b"first", "b": b"second"})
    offset, length = opened(data).stored_range("b")
    assert data[offset : offset + length] == b"second"
    with pytest.raises(MalformedFileError, match="member 'a' is compressed"):
        opened(pack({"a": b"first" * 99}, compression=zipfile.ZIP_DEFLATED)).stored_range("a")


@pytest.mark.parametrize(("names", "root"), [(["x/a", "y/b"], "x/"), (["a", "x/b"], ""), (["a"], ""), (["x/"], "x/")])
def test_the_root_is_that_of_the_first_member(names: list[str], root: str) -> None:
    assert opened(pack(dict.fromkeys(names, b""))).root == root


def test_names_are_matched_whole_and_never_leave_the_archive() -> None:
    archive = opened(pack({"../../evil": b"x", "/abs": b"y", "a\x1b[31m": b"z"}))
    assert archive.read("../../evil", limit=10) == b"x"
    assert "evil" not in archive
    with pytest.raises(MalformedFileError, match=r"no member '/data\.pkl'"):
        archive.read("/data.pkl", limit=10)


def test_something_in_front_of_the_archive_shifts_the_offsets() -> None:
    archive = opened(b"x" * 777 + pack({"a": b"content"}))
    assert archive.members["a"].header_offset == 777
    assert archive.read("a", limit=10) == b"content"


def sparse(parts: dict[int, bytes], size: int) -> ByteRange:
    """A file of zeros with some bytes in it, as large as one likes."""

    def fetch(start: int, count: int) -> bytes:
        assert count < 1 << 20
        data = bytearray(count)
        for offset, part in parts.items():
            for index, byte in enumerate(part):
                if start <= offset + index < start + count:
                    data[offset + index - start] = byte
        return bytes(data)

    return ByteRange(name="test.zip", size=size, fetch=fetch)


def test_zip64_members_beyond_four_gibibytes(tmp_path: Path) -> None:
    path = tmp_path / "large.zip"
    zeros = bytes(1 << 20)
    try:
        with path.open("wb") as raw:
            raw.truncate(1)
        with path.open("r+b") as raw, zipfile.ZipFile(_Sparse(raw), "w", allowZip64=True) as archive:
            with archive.open(zipfile.ZipInfo("x/large"), "w", force_zip64=True) as member:
                for _ in range(4100):
                    member.write(zeros)
            archive.writestr("x/after", b"behind four gibibytes")
    except OSError as error:
        pytest.skip(f"no sparse files here: {error}")
    with Source(path) as source:
        found = Archive(source)
        assert found.members["x/large"].size == 4100 << 20
        assert found.members["x/after"].header_offset > 1 << 32
        assert found.read("x/after", limit=100) == b"behind four gibibytes"
        offset, length = found.stored_range("x/large")
        assert (source.read(offset + length - 4, 4), length) == (bytes(4), 4100 << 20)
        assert source.bytes_read < 1 << 20
    path.unlink()


class _Sparse:
    """Seeks over zeros instead of writing them."""

    def __init__(self, stream: io.BufferedRandom) -> None:
        self._stream = stream

    def write(self, data: bytes) -> int:
        if len(data) == 1 << 20:
            self._stream.seek(len(data), io.SEEK_CUR)
            return len(data)
        return self._stream.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def test_two_members_of_one_name() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a", b"one")
        archive.writestr("a", b"two")
    with pytest.raises(MalformedFileError, match="member 'a' twice"):
        opened(stream.getvalue())


def with_entry(data: bytes, index: int, offset: int, value: bytes) -> bytes:
    """Overwrite a field of the n-th entry of the central directory."""
    place = -1
    for _ in range(index + 1):
        place = data.index(b"PK\x01\x02", place + 1)
    return data[: place + offset] + value + data[place + offset + len(value) :]


TWO = pack({"a": b"1" * 50, "b": b"2" * 50})
DAMAGED = {
    "overlap": (with_entry(TWO, 1, 42, struct.pack("<I", 10)), "overlaps"),
    "same place": (with_entry(TWO, 1, 42, struct.pack("<I", 0)), "overlaps"),
    "behind the directory": (with_entry(TWO, 1, 20, struct.pack("<2I", 5000, 5000)), "beyond its directory"),
    "two sizes": (with_entry(TWO, 1, 20, struct.pack("<I", 40)), "two sizes"),
    "encrypted": (with_entry(TWO, 0, 8, b"\x01\x00"), "encrypted"),
    "no zip64 size": (with_entry(TWO, 0, 24, b"\xff\xff\xff\xff" * 1), "two sizes|lacks its size"),
    "no zip64 offset": (with_entry(TWO, 0, 42, b"\xff\xff\xff\xff"), "lacks its size"),
    "name too long": (with_entry(TWO, 1, 28, b"\xff\xff"), "broken"),
    "signature": (with_entry(TWO, 1, 0, b"PK\x01\x03"), "broken"),
    "count": (TWO[:-14] + b"\x03\x00\x03\x00" + TWO[-10:], "instead of"),
    "cut off": (TWO[:-1], "its end is missing|does not fit|broken|breaks off"),
    "no end": (TWO[:-22], "its end is missing"),
    "empty": (b"", "its end is missing"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_directories(case: str) -> None:
    data, message = DAMAGED[case]
    with pytest.raises(MalformedFileError, match=message):
        opened(data)


def test_a_member_without_its_header() -> None:
    archive = opened(b"XX" + TWO[2:])
    with pytest.raises(MalformedFileError, match="member 'a' has no header"):
        archive.read("a", limit=100)


def test_unknown_compression() -> None:
    archive = opened(pack({"a": b"content" * 9}, compression=zipfile.ZIP_BZIP2))
    with pytest.raises(MalformedFileError, match="zip method 12"):
        archive.read("a", limit=100)


def test_bombs_are_refused() -> None:
    bomb = pack({"a": bytes(100 << 20)}, compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 200_000
    with pytest.raises(LimitExceededError, match="more than the 1000 this tool reads"):
        opened(bomb).read("a", limit=1000)
    with pytest.raises(LimitExceededError, match="more than the 67108864 this tool reads"):
        opened(bomb).range_of("a", limit=1 << 40)
    lying = with_entry(bomb, 0, 24, struct.pack("<I", 50))
    with pytest.raises(MalformedFileError, match="inflates to another size than the 50 bytes"):
        opened(lying).read("a", limit=200_000)


def test_damaged_compression() -> None:
    data = bytearray(pack({"a": bytes(range(256)) * 9}, compression=zipfile.ZIP_DEFLATED))
    data[31:60] = bytes(29)
    with pytest.raises(MalformedFileError, match=r"damaged|inflates"):
        opened(bytes(data)).read("a", limit=10_000)


def test_a_directory_of_absurd_size_is_not_read() -> None:
    size = 1 << 30
    for length in (MAX_DIRECTORY_BYTES + 1, 1 << 29):
        end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, length, 0, 0)
        with pytest.raises(LimitExceededError, match="zip directory of"):
            Archive(sparse({size - len(end): end}, size))
    record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, 1 << 29, 0)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, size - 98, 1)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    with pytest.raises(LimitExceededError, match="zip directory of"):
        Archive(sparse({size - 98: record + locator + end}, size))


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.data())
def test_mutated_archives_are_read_or_refused(choose: st.DataObject) -> None:
    data = bytearray(choose.draw(st.sampled_from([TWO, pack(MEMBERS, compression=zipfile.ZIP_DEFLATED)])))
    for _ in range(choose.draw(st.integers(1, 4))):
        data[choose.draw(st.integers(0, len(data) - 1))] = choose.draw(st.integers(0, 255))
    data = data[: choose.draw(st.integers(0, len(data)))] if choose.draw(st.booleans()) else data
    try:
        archive = opened(bytes(data))
        for name in archive.members:
            archive.read(name, limit=1000)
            archive.stored_range(name)
    except ArtifactError as error:
        assert "test.zip" in str(error)
