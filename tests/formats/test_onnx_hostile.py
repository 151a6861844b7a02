"""Damaged and hostile ONNX files: one error of the project's own, soon, and within little memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx_texts import VECTORS, head

from bn_audit import plugins
from bn_audit.audit import read_subject
from bn_audit.containers.source import Source
from bn_audit.containers.target import FileTarget
from bn_audit.errors import ArtifactError, BnAuditError, MalformedFileError
from bn_audit.formats.onnx import read, sniff

MUTATIONS = 1500


def sample() -> bytes:
    """Return a model with functions, bodies, constants and batch norms of every origin."""
    text = f"""{head()}
    g (float[N,3,4,4] x, bool c, float[3] gm) => (float[N,3,4,4] z) {VECTORS} {{
        shape = Constant <value_ints: ints = [0, -1, 4, 4]> ()
        r = Reshape (x, shape)
        a, m1, v1 = BatchNormalization <training_mode: int = 1> (r, s, b, m, v)
        k = Identity (m)
        d = Mul (v, s)
        e = local.f <eps = 0.5> (a, s, b, k, d)
        h = BatchNormalization (e, s, b, gm, v)
        axes = Constant <value_ints: ints = [0, 2, 3]> ()
        mean = ReduceMean (h, axes)
        diff = Sub (h, mean)
        sq = Mul (diff, diff)
        var = ReduceMean (sq, axes)
        tiny = Constant <value_float: float = 0.001> ()
        safe = Add (var, tiny)
        root = Sqrt (safe)
        n = Div (diff, root)
        o = If (c) <
            then_branch = one () => (y) {{ y, y1, y2 = BatchNormalization <training_mode: int = 1> (n, s, b, m, v) }},
            else_branch = two () => (w) {{ w = Dropout (n) }}
        >
        z = Relu (o)
    }}
    <domain: "local", opset_import: ["" : 18]>
    f <eps> (x, s, b, m, v) => (y) {{ y = BatchNormalization <epsilon: float = @eps> (x, s, b, m, v) }}"""
    data: bytes = onnx.parser.parse_model(text).SerializeToString()
    return data


def judge(path: Path) -> int:
    """Read the file, load its norms' tensors and ask every rule; return the number of its norms."""
    target = FileTarget(Source(path))
    sniff(target)
    subject = read(target)
    for norm in subject.norms:
        for tensor in norm.tensors.values():
            try:
                tensor.values()
            except ArtifactError:
                continue
    for rule in plugins.rules():
        if rule.concerns(subject) and not rule.needs & ~subject.facts:
            try:
                list(rule.check(subject))
            except BnAuditError:
                continue
    return len(subject.norms)


def flip(data: bytearray, generator: random.Random) -> None:
    for _ in range(generator.choice((1, 1, 2, 4, 8))):
        data[generator.randrange(len(data))] = generator.choice((0, 1, 0x7F, 0x80, 0xFF, generator.randrange(256)))


def cut(data: bytearray, generator: random.Random) -> None:
    del data[generator.randrange(len(data)) :]


def drop(data: bytearray, generator: random.Random) -> None:
    start = generator.randrange(len(data))
    del data[start : start + generator.randrange(1, 20)]


def copy(data: bytearray, generator: random.Random) -> None:
    start, place = generator.randrange(len(data)), generator.randrange(len(data))
    data[place:place] = data[start : start + generator.randrange(1, 60)]


def exchange(data: bytearray, generator: random.Random) -> None:
    """Give a value the name of another one of the same length: cycles, missing and doubled values."""
    names = [place for place in range(len(data) - 2) if data[place] == 0x0A and data[place + 1] == 1]
    one, other = generator.choice(names), generator.choice(names)
    data[one + 2] = data[other + 2]


@pytest.mark.parametrize("mutate", [flip, cut, drop, copy, exchange])
def test_mutated_model_gives_a_subject_or_the_projects_error(
    mutate: Callable[[bytearray, random.Random], None], tmp_path: Path
) -> None:
    generator = random.Random(11)
    original, path = sample(), tmp_path / "model.onnx"
    path.write_bytes(original)
    assert judge(path) == 5
    outcomes = {"read": 0, "refused": 0}
    for _ in range(MUTATIONS // 5):
        data = bytearray(original)
        mutate(data, generator)
        path.write_bytes(data)
        try:
            judge(path)
            outcomes["read"] += 1
        except ArtifactError as error:
            assert str(path) in str(error)
            outcomes["refused"] += 1
    assert outcomes["refused"] > 10


def test_model_cut_off_within_its_graph_is_still_a_model(tmp_path: Path) -> None:
    whole = sample()
    path = tmp_path / "file"
    path.write_bytes(whole[: len(whole) // 2])
    assert sniff(FileTarget(Source(path)))
    with pytest.raises(MalformedFileError, match="truncated"), read_subject(path):
        pass
