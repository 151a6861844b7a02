"""Damaged and hostile TorchScript archives end in the project's own errors, quickly, and nothing in them runs."""

from __future__ import annotations

import io
import pickle
import random
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bn_audit.containers.source import Source
from bn_audit.containers.target import FileTarget
from bn_audit.errors import ArtifactError, LimitExceededError, MalformedFileError
from bn_audit.formats.torchscript import FORMAT
from bn_audit.subject.subject import Subject

pytestmark = pytest.mark.filterwarnings("ignore")

SECONDS = 20
"""Far above what any of these takes on a slow machine, far below what an unbounded reader takes."""


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        for _ in range(2):
            if bool(x.sum() > 0):
                x = F.dropout(x, 0.5, self.training)
        return x


@cache
def genuine() -> dict[str, bytes]:
    """Return the members of a genuine archive, by name."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Net()), buffer)
    with zipfile.ZipFile(buffer) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def member(suffix: str) -> str:
    (name,) = [name for name in genuine() if name.endswith(suffix)]
    return name


def packed(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def read(path: Path) -> Subject:
    with Source(path) as source:
        return FORMAT.read(FileTarget(source))


def reads_or_refuses(path: Path) -> Subject | None:
    """Read; anything but an error of the project's own fails the test."""
    started = time.perf_counter()
    subject = None
    try:
        subject = read(path)
    except ArtifactError as error:
        assert str(path) in str(error)
    for norm in subject.norms if subject else ():
        for tensor in norm.tensors.values():
            with suppress(ArtifactError):
                tensor.load()
    assert time.perf_counter() - started < SECONDS
    return subject


def with_code(tmp_path: Path, code: str) -> Path:
    """Return an archive whose root class has this code."""
    name = next(name for name, data in genuine().items() if name.endswith(".py") and b"class Net(Module)" in data)
    return packed(tmp_path / "model.pt", {**genuine(), name: code.encode()})


def forward(*lines: str) -> str:
    body = "".join(f"    {line}\n" for line in lines)
    return (
        f"class Net(Module):\n  training : bool\n  def forward(self: __torch__.Net,\n    x: Tensor) -> Tensor:\n{body}"
    )


def test_genuine_members_read(tmp_path: Path) -> None:
    (norm,) = read(packed(tmp_path / "model.pt", genuine())).norms
    assert norm.path == "bn"


def test_truncated_anywhere(tmp_path: Path) -> None:
    data = packed(tmp_path / "model.pt", genuine()).read_bytes()
    for end in range(8, len(data), max(len(data) // 60, 1)):
        (tmp_path / "cut.pt").write_bytes(data[:end])
        with pytest.raises(ArtifactError):
            read(tmp_path / "cut.pt")


def test_without_each_member(tmp_path: Path) -> None:
    for missing in genuine():
        members = {name: data for name, data in genuine().items() if name != missing}
        reads_or_refuses(packed(tmp_path / "model.pt", members))
        emptied = {**genuine(), missing: b""}
        reads_or_refuses(packed(tmp_path / "model.pt", emptied))


DEEP = 100_000

ABSURD: dict[str, Callable[[], str]] = {
    "no text": lambda: "\x00\x01",
    "not python": lambda: "{}[]()\n" * 50,
    "no header end": lambda: "class Net(Module):\n  def forward(self,\n    x: Tensor",
    "header of nonsense": lambda: "class Net(Module):\n  def forward(1, 2) -> Tensor:\n    return x\n",
    "no arguments": lambda: "class Net(Module):\n  def forward() -> Tensor:\n    return x\n",
    "varargs": lambda: "class Net(Module):\n  def forward(*a, **b) -> Tensor:\n    return a\n",
    "long lines": lambda: forward(*[f"y{i} = x" + "()" * 120_000 for i in range(60)], "return torch.dropout(x, 1, y0)"),
    "brackets": lambda: forward("y = " + "(" * DEEP + "x" + ")" * DEEP, "return y"),
    "minus signs": lambda: forward("y = " + "-" * DEEP + "1", "return y"),
    "attributes": lambda: forward("y = x" + ".a" * DEEP, "return y"),
    "nested calls": lambda: forward("y = " + "torch.relu(" * 150 + "x" + ")" * 150, "return y"),
    "calls of results": lambda: forward("y = x" + "()" * 5000, "return y"),
    "subscripts": lambda: forward("y = x" + "[0]" * 5000, "return y"),
    "list": lambda: forward(f"y = torch.batch_norm({'[' + '0, ' * 200_000 + ']'})", "return y"),
    "tuple targets": lambda: forward(", ".join(f"a{i}" for i in range(200_000)) + ", = x", "return x"),
    "huge integer": lambda: forward("y = " + "9" * 10_000, "return y"),
    "huge power": lambda: forward("y = 9", *["y = torch.mul(y, y)"] * 5000, "return y"),
    "string growth": lambda: forward('y = "a"', *["y = torch.add(y, y)"] * 200, "return y"),
    "list growth": lambda: forward("y = [x]", *["y = torch.add(y, y)"] * 60, "return y"),
    "nested lists": lambda: forward("y = [x]", *["y = [y, y]"] * 60, "return torch.cat(y)"),
    "many flags": lambda: forward("y = self.training", *["y = torch.__or__(y, self.training)"] * 500, "return y"),
    "self call": lambda: forward("return (self).forward(x, )"),
    "itself twice": lambda: forward("y = (self).forward(x, )", "return (self).forward(y, )"),
    "no arguments to norm": lambda: forward("return torch.batch_norm()"),
    "odd arguments to norm": lambda: forward("return torch.batch_norm(1, 2, 3, 4, 5, 6, 7, 8, 9)"),
    "odd dropouts": lambda: forward("y = torch.dropout()", "z = torch.lstm(x)", "return torch.rrelu(x, 1, 2, x)"),
    "missing constants": lambda: forward("return torch.batch_norm(x, CONSTANTS.c99, CONSTANTS.cx, CONSTANTS, 1)"),
    "unreadable norm": lambda: forward("y = torch.batch_norm(x, )) 7", "return y"),
    "long symbol": lambda: forward(
        "n = torch.size(x, 0)", *["n = torch.mul(n, n)"] * 300, "return torch.batch_norm(torch.reshape(x, [1, n]))"
    ),
    "reference loop": lambda: (
        "def a():\n  return __torch__.b()\ndef b():\n  return __torch__.a()\n" + forward("return __torch__.a()")
    ),
    "interesting reference loop": lambda: (
        "def a(x: Tensor) -> Tensor:\n  y = torch.dropout(x, 0.5, True)\n  return __torch__.b(y, )\n"
        "def b(x: Tensor) -> Tensor:\n  return __torch__.a(x, )\n" + forward("return __torch__.a(x, )")
    ),
    "blocks": lambda: forward(*("  " * i + "if x:" for i in range(500))),
    "else alone": lambda: forward("else:", "  y = x", "return y"),
    "odd indentation": lambda: forward("         y = x", "  z = y", "return z"),
    "methods without class": lambda: "  def forward(self) -> Tensor:\n    return x\n",
    "no such method": lambda: "class Net(Module):\n  training : bool\n",
    "setting attributes": lambda: forward("self.bn = x", "self.training = x", "y = self.bn", "return (y).forward(x, )"),
}


@pytest.mark.parametrize("name", ABSURD)
def test_absurd_code(name: str, tmp_path: Path) -> None:
    reads_or_refuses(with_code(tmp_path, ABSURD[name]()))


def doubling(depth: int) -> str:
    """Return methods of which each calls the next one twice: 2 to the power of `depth` calls."""
    methods = [
        f"  def f{i}(self: __torch__.Net,\n    x: Tensor) -> Tensor:\n"
        f"    y = (self).f{i + 1}(x, )\n    return (self).f{i + 1}(y, )\n"
        for i in range(depth)
    ]
    last = f"  def f{depth}(self: __torch__.Net,\n    x: Tensor) -> Tensor:\n    return torch.dropout(x, 0.5, True)\n"
    return forward("return (self).f0(x, )") + "".join(methods) + last


def test_exponential_code_ends(tmp_path: Path) -> None:
    started = time.perf_counter()
    with pytest.raises(LimitExceededError):
        read(with_code(tmp_path, doubling(40)))
    assert time.perf_counter() - started < SECONDS


def test_bomb_of_code(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in genuine().items():
            archive.writestr(name, b"#" * (64 << 20) if name.endswith(".py") else data)
    with pytest.raises(LimitExceededError):
        read(tmp_path / "model.pt")


def test_pickle_of_something_else(tmp_path: Path) -> None:
    for value in (None, 3, [1], {"a": 1}, pytest.approx):
        with pytest.raises(MalformedFileError):
            read(packed(tmp_path / "model.pt", {**genuine(), member("/data.pkl"): pickle.dumps(value, 2)}))


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 6))
def test_flipped_bytes(seed: int, count: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    generator = random.Random(seed)
    members = dict(genuine())
    for _ in range(count):
        name = generator.choice([name for name in members if name.endswith((".py", ".pkl")) and members[name]])
        data = bytearray(members[name])
        data[generator.randrange(len(data))] = generator.randrange(256)
        members[name] = bytes(data)
    reads_or_refuses(packed(tmp_path_factory.mktemp("fuzz") / "model.pt", members))


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_shuffled_lines(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    generator = random.Random(seed)
    members = dict(genuine())
    for name in [name for name in members if name.endswith(".py")]:
        lines = members[name].decode().split("\n")
        for _ in range(3):
            here, there = generator.randrange(len(lines)), generator.randrange(len(lines))
            match generator.randrange(3):
                case 0:
                    lines[here] = lines[there]
                case 1:
                    lines[here] = lines[here][: len(lines[here]) // 2] + lines[there][len(lines[there]) // 2 :]
                case _:
                    del lines[here : here + generator.randrange(3)]
                    lines.append("")
        members[name] = "\n".join(lines).encode()
    reads_or_refuses(packed(tmp_path_factory.mktemp("fuzz") / "model.pt", members))
