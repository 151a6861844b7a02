import os
from pathlib import Path

import pytest

from bn_audit.containers.byte_range import range_of_bytes, range_of_source
from bn_audit.containers.source import SMALL_FILE_BYTES, Source
from bn_audit.errors import MalformedFileError, MissingTargetError


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(range(256)) * 1024)
    return path


def test_ranges_are_read_and_counted(big: Path) -> None:
    with Source(big) as source:
        assert source.bytes_read == 0
        assert source.read(256 * 3 + 1, 3) == b"\x01\x02\x03"
        assert source.head(2) == b"\x00\x01"
        assert source.bytes_read == 5
        assert source.size == 256 * 1024


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (0, 262145), (262144, 1), (1 << 70, 1), (1, 1 << 70)])
def test_ranges_outside_the_file_are_malformed(big: Path, offset: int, length: int) -> None:
    for readable in (Source(big), range_of_bytes("bytes", big.read_bytes())):
        with pytest.raises(MalformedFileError, match="262144"):
            readable.read(offset, length)


def test_a_small_file_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "small.bin"
    path.write_bytes(b"abc")
    source = Source(path, "shown name")
    assert [source.read(0, 1), source.read(1, 2), source.head(100)] == [b"a", b"bc", b"abc"]
    assert source.bytes_read == 3 < SMALL_FILE_BYTES
    with pytest.raises(MalformedFileError, match="shown name: truncated"):
        source.read(2, 2)


def test_the_end_of_a_file_can_be_read_as_nothing(big: Path) -> None:
    assert Source(big).read(262144, 0) == b""


@pytest.mark.parametrize("name", ["absent", "a\x00b", "x" * 5000])
def test_what_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(MissingTargetError, match="cannot be opened"):
        Source(tmp_path / name)


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    with pytest.raises(MissingTargetError, match="not a regular file"):
        Source(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(MissingTargetError, match="not a regular file"):
            Source(tmp_path / "pipe")


def test_a_file_that_shrinks_or_vanishes(big: Path) -> None:
    source = Source(big)
    source.read(0, 1)
    with big.open("r+b") as stream:
        stream.truncate(10)
    with pytest.raises(MalformedFileError, match="became shorter"):
        source.read(0, 100)
    source.close()
    big.unlink()
    with pytest.raises(MissingTargetError, match="cannot be read"):
        source.read(0, 1)


def test_a_closed_file_opens_again(big: Path) -> None:
    source = Source(big)
    source.read(0, 1)
    source.close()
    assert source.read(1, 1) == b"\x01"
    source.close()


def test_siblings_are_read_and_counted(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text("{}")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "one.bin").write_bytes(b"12345")
    source = Source(tmp_path / "index.json", "model/index.json")
    part = source.sibling("parts/one.bin")
    assert part is source.sibling("parts/one.bin")
    assert part.name == "model/parts/one.bin"
    assert part.read(1, 2) == b"23"
    assert source.bytes_read == 5
    with pytest.raises(MissingTargetError):
        source.sibling("parts/two.bin")


NAMES = ["../secret", "/etc/passwd", "parts/../../secret", "..", ".", "", "C:\\secret", "..\\secret", "a\x00b"]


@pytest.mark.parametrize("name", NAMES)
def test_siblings_outside_the_directory_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "index.json").write_text("{}")
    with pytest.raises(MalformedFileError, match="outside its own directory"):
        Source(tmp_path / "inside" / "index.json").sibling(name)


def test_siblings_may_be_links_as_in_the_cache_of_the_hub(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "snapshots" / "1", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "abc").write_bytes(b"shard")
    (snapshot / "index.json").write_text("{}")
    try:
        (snapshot / "shard.bin").symlink_to(blobs / "abc")
    except OSError:
        pytest.skip("no symbolic links here")
    assert Source(snapshot / "index.json").sibling("shard.bin").read(0, 5) == b"shard"


def test_a_part_of_a_file_is_a_file(big: Path) -> None:
    part = range_of_source(Source(big), 16, 32, name="part")
    assert (part.name, part.size) == ("part", 32)
    assert part.read(1, 2) == b"\x11\x12"
    assert range_of_source(part, 4, 4).read(0, 4) == b"\x14\x15\x16\x17"
    for offset, length in ((0, 33), (33, 0), (-1, 1)):
        with pytest.raises(MalformedFileError):
            part.read(offset, length)
    with pytest.raises(MalformedFileError):
        range_of_source(part, 30, 3)
