"""The command on hostile, damaged and wrong files: one clear message, exit code 3, in bounded time and memory."""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command import Outcome, bn_audit_command
from safetensors.torch import save
from zoo.catalogue import ZOO, Mode, network
from zoo.forms import export, quietly, script

SECONDS = 10
MEMORY_BYTES = 768 << 20
"""Address space, of which the interpreter and its libraries take some 100 MiB."""


def audit(*arguments: str | Path) -> Outcome:
    memory = MEMORY_BYTES if sys.platform == "linux" else None
    outcome = bn_audit_command("check", *arguments, memory_bytes=memory, seconds=SECONDS)
    assert "Traceback" not in outcome.text
    assert "internal error" not in outcome.text
    return outcome


def refused(path: Path) -> str:
    """Return what the command says about a file that it must refuse, white space folded."""
    outcome = audit(path)
    assert outcome.code == 3, outcome.text
    message = " ".join(outcome.text.split())
    assert "clean" not in message
    return message


class Canary:
    """Would create a file if anything unpickled it."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, ...]:
        return self.call


def in_zip(data_pkl: bytes, compression: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data_pkl)
        for name, content in {"version": b"3\n", "byteorder": b"little", **members}.items():
            archive.writestr(f"archive/{name}", content)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"hello, this is no model\n" * 20, "text"),
        (b"<!DOCTYPE html>\n<html><head><title>404</title></head><body>Not found</body></html>", "HTML"),
        (b"<html><body>Access denied</body></html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 102400\n", "git lfs pull"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 200, "PNG"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF" + b"\0" * 200, "JPEG"),
        (b"%PDF-1.7\n" + b"\0" * 200, "PDF"),
        (b"\x1f\x8b\x08\x00" + b"\0" * 200, "gzip"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 200, "HDF5"),
        (b"PK\x05\x06" + b"\0" * 18, "zip"),
        (b"\0" * 4096, ""),
        (bytes(range(256)) * 40, ""),
        (b'{"error": "Repository not found"}', "JSON"),
    ],
)
def test_other_files_are_named(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    assert said.lower() in refused(path).lower()


def _real(form: str, directory: Path) -> bytes:
    path = directory / "real"
    model = network("plain_cnn", Mode.EVAL)
    with quietly():
        if form == "torchscript":
            script(model, path)
        elif form == "exported":
            export(model, path, ZOO["plain_cnn"].inputs())
        elif form == "safetensors":
            path.write_bytes(save(model.state_dict()))
        elif form == "pickle":
            path.write_bytes(pickle.dumps(model))
        else:
            torch.save(model, path, _use_new_zipfile_serialization=form == "zip")
    return path.read_bytes()


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle", "torchscript", "exported", "safetensors"])
def test_truncated_files_are_refused(form: str, share: float, tmp_path: Path) -> None:
    content = _real(form, tmp_path)
    path = tmp_path / "model.pt"
    path.write_bytes(content[: int(len(content) * share)])
    assert len(refused(path)) > 40


def _canary_calls(mark: Path) -> dict[str, bytes]:
    import builtins
    import subprocess

    touch = f"open({str(mark)!r}, 'w').close()"
    calls = {
        "os.system": (os.system, f"touch {mark}"),
        "exec": (builtins.exec, touch),
        "eval": (builtins.eval, touch),
        "subprocess": (subprocess.check_call, ["touch", str(mark)]),
    }
    pickles = {name: pickle.dumps({"model": Canary(*call)}, 2) for name, call in calls.items()}
    pickles["inst"] = b"(S" + repr(f"touch {mark}").encode() + b"\nios\nsystem\n."
    pickles["obj"] = b"(cos\nsystem\nS" + repr(f"touch {mark}").encode() + b"\no."
    return pickles


@pytest.mark.parametrize("wrapped", [True, False], ids=["zip", "plain"])
@pytest.mark.parametrize("name", ["os.system", "exec", "eval", "subprocess", "inst", "obj"])
def test_nothing_in_a_pickle_runs(name: str, wrapped: bool, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    content = _canary_calls(mark)[name]
    pickle.loads(content)
    assert mark.exists(), "the canary does not sing"
    mark.unlink()
    path = tmp_path / "model.pt"
    path.write_bytes(in_zip(content) if wrapped else content)
    refused(path)
    assert not mark.exists()


def _doubling(levels: int) -> bytes:
    """A list that holds the one before twice, again and again: small to write, endless to walk."""
    value: list[object] = []
    for _ in range(levels):
        value = [value, value]
    return pickle.dumps(value, 2)


def _cycle() -> bytes:
    value: dict[str, object] = {"a": [1, 2]}
    value["self"] = value
    value["list"] = [value, [value]]
    return pickle.dumps(value, 4)


def _long_paths() -> bytes:
    """One long key, nested in itself by reference: the paths would take terabytes."""
    key = b"k" * 100_000
    return b"\x80\x02}X" + struct.pack("<I", len(key)) + key + b"q\x00" + b"}h\x00" * 3000 + b"N" + b"s" * 3001 + b"."


_MODULE_START = (
    b"\x80\x02]ctorch.nn.modules.container\nSequential\nq\x00X\x05\x00\x00\x00innerq\x01"
    b"X\x08\x00\x00\x00_modulesq\x02X\x0b\x00\x00\x00_parametersq\x03" + b"0" * 4
)
"""A list to append to, and in the memo: 0 a module class, 1 the name of a child, 2 and 3 the keys of the registry."""


def _modules(count: int, *, listed: bool) -> bytes:
    """A chain of modules, each the child of the next; with `listed`, a list refers to every one of them."""
    parts = [_MODULE_START]
    for index in range(count):
        child = b"h\x01j" + struct.pack("<I", 10 + index - 1) + b"s" if index else b""
        parts.append(b"h\x00)\x81}(h\x03}h\x02}" + child + b"ub")
        parts.append(b"r" + struct.pack("<I", 10 + index) + (b"a" if listed or index == count - 1 else b"0"))
    return b"".join(parts) + b"."


def _wrappers(count: int) -> bytes:
    """Compiled modules that wrap each other."""
    layer = b"q\x010h\x00h\x01\x85R"
    return b"\x80\x02ctorch._dynamo.eval_frame\nOptimizedModule\nq\x000N" + layer * count + b"."


def _shared_tree(models: int, modules: int) -> bytes:
    """A list of models, every one with the same child of many modules."""
    parts = [_MODULE_START, b"h\x00)\x81}(h\x03}h\x02}("]
    parts += [b"X\x06\x00\x00\x00%06d" % index + b"h\x00)\x81}(h\x03}h\x02}ub" for index in range(modules)]
    parts.append(b"uubq\x040")
    parts += [b"h\x00)\x81}(h\x03}h\x02}h\x01h\x04suba"] * models
    return b"".join(parts) + b"."


BOMBS: dict[str, Callable[[], bytes]] = {
    "memo-index": lambda: b"\x80\x02]r\xff\xff\xff\x7f.",
    "get-unknown": lambda: b"\x80\x02j\xff\xff\xff\x7f.",
    "long-bytes": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"abc.",
    "long-text": lambda: b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"abc.",
    "long-frame": lambda: b"\x80\x04\x95" + struct.pack("<Q", 1 << 50) + b"}.",
    "negative-long": lambda: b"\x80\x02\x8b\xff\xff\xff\xff.",
    "long-integer": lambda: b"\x80\x02\x8b" + struct.pack("<i", 1 << 24) + b"\x7f" * (1 << 24) + b".",
    "decimal-integer": lambda: b"I" + b"9" * 2_000_000 + b"\n.",
    "nested-lists": lambda: b"\x80\x02" + b"]" * 500_000 + b"a" * 499_999 + b".",
    "nested-tuples": lambda: b"\x80\x02)" + b"\x85" * 500_000 + b".",
    "nested-dicts": lambda: b"\x80\x02" + b"}K\x01" * 200_000 + b"N" + b"s" * 200_000 + b".",
    "nested-calls": lambda: b"\x80\x02cos\nsystem\n" + b")R" * 300_000 + b".",
    "nested-wrappers": lambda: _wrappers(30_000),
    "marks": lambda: b"\x80\x02" + b"(" * 3_000_000 + b".",
    "duplicates": lambda: b"\x80\x02}" + b"2" * 5_000_000 + b".",
    "long-paths": _long_paths,
    "module-chain": lambda: _modules(30_000, listed=False),
    "module-chain-listed": lambda: _modules(30_000, listed=True),
    "shared-tree": lambda: _shared_tree(3000, 3000),
    "doubling": lambda: _doubling(60),
    "doubling-tuples": lambda: b"\x80\x02)" + b"q\x00h\x00\x86" * 80 + b".",
    "cycle": _cycle,
    "empty-pickle": lambda: b"\x80\x02.",
    "no-stop": lambda: b"\x80\x02}",
    "unknown-opcode": lambda: b"\x80\x02\xf7.",
    "unknown-protocol": lambda: b"\x80\x63}.",
    "extension": lambda: b"\x80\x02\x82\x01.",
    "unhashable-key": lambda: b"\x80\x02}]]s.",
    "build-on-number": lambda: b"\x80\x02K\x01}b.",
    "append-to-number": lambda: b"\x80\x02K\x01K\x02a.",
}


@pytest.mark.parametrize("wrapped", [True, False], ids=["zip", "plain"])
@pytest.mark.parametrize("name", sorted(BOMBS))
def test_pickle_bombs_end_in_a_message(name: str, wrapped: bool, tmp_path: Path) -> None:
    content = BOMBS[name]()
    path = tmp_path / "model.pt"
    path.write_bytes(in_zip(content) if wrapped else content)
    refused(path)


def test_zip_bomb_is_not_inflated(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(in_zip(b"\x80\x02" + b"\0" * (300 << 20), zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 1 << 20
    refused(path)


def test_zip_with_a_false_size_is_refused(tmp_path: Path) -> None:
    content = bytearray(in_zip(pickle.dumps({"a": 1}), zipfile.ZIP_DEFLATED))
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 0xFFFFFFF0)
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    refused(path)


def test_safetensors_header_of_absurd_length_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for length in (1 << 40, (1 << 63) + 5, 200 << 20):
        path.write_bytes(struct.pack("<Q", length) + b'{"a":' + b" " * 100)
        refused(path)


def test_safetensors_header_nested_deeply_is_refused(tmp_path: Path) -> None:
    header = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    refused(path)


def test_huge_sparse_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    for head in (b"", b"\x80\x02}q\x00", b"PK\x03\x04"):
        with path.open("wb") as stream:
            stream.write(head)
            stream.truncate(4 << 30)
        refused(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    assert "nothing.pt" in refused(tmp_path / "nothing.pt")


def test_directory_without_models_is_said(tmp_path: Path) -> None:
    assert "no model" in refused(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no FIFOs")
def test_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.pt")
    assert "not a regular file" in refused(tmp_path / "model.pt")
    refused(tmp_path)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="the platform has no /dev/zero")
def test_device_does_not_hang() -> None:
    assert "not a regular file" in refused(Path("/dev/zero"))


def test_link_to_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    try:
        path.symlink_to(path)
    except (OSError, NotImplementedError):
        pytest.skip("the platform has no links")
    refused(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything is readable here")
def test_unreadable_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(network("plain_cnn", Mode.EVAL), path)
    path.chmod(0)
    refused(path)


@pytest.mark.skipif(sys.platform == "win32", reason="such names are not allowed")
@pytest.mark.parametrize("good", [True, False])
def test_names_cannot_write_on_the_terminal(good: bool, tmp_path: Path) -> None:
    path = tmp_path / "mo\x1b[31mdel\nclean: 0 errors\r\x07 [bold]x[red].pt"
    if good:
        torch.save(network("plain_cnn", Mode.TRAIN), path)
    else:
        path.write_bytes(b"nothing")
    outcome = audit(path)
    assert outcome.code == (1 if good else 3)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", outcome.text)
    assert "\nclean" not in outcome.text
    assert "[bold]" in outcome.text.replace("\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux only")
def test_name_that_is_no_utf8_is_shown(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/mod\xff\xfeel.pt")
    torch.save(network("plain_cnn", Mode.EVAL), Path(name))
    for form in ("text", "json"):
        assert audit(Path(name), "--format", form).code == 0


@pytest.mark.parametrize("wrong", [("--fail-on", "never"), ("--intent", "win"), ("--select", "XY9"), ("--nonsense",)])
def test_wrong_usage_is_told_apart(wrong: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(network("plain_cnn", Mode.EVAL), path)
    assert audit(path, *wrong).code == 2


def test_one_bad_file_does_not_hide_the_findings_of_others(tmp_path: Path) -> None:
    torch.save(network("plain_cnn", Mode.TRAIN), tmp_path / "good.pt")
    (tmp_path / "bad.pt").write_bytes(BOMBS["memo-index"]())
    outcome = audit(tmp_path / "good.pt", tmp_path / "bad.pt")
    assert outcome.code == 3
    assert "BN101" in outcome.out
    assert "bad.pt" in outcome.text
