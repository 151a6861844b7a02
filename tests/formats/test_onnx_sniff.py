"""What is an ONNX model and what is none, told by the bytes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bn_audit.containers.source import Source
from bn_audit.containers.target import FileTarget
from bn_audit.formats.onnx import sniff

NOT_MODELS = {
    "empty": b"",
    "text": b'"Bob" (B) r (an R)\n' * 40,
    "zeros": bytes(4096),
    "pickle": b"\x80\x02}q\x00.",
    "saved model": b"\x08\x01\x12\x20" + b"\x0a\x1e" + b"\x08" * 30,
    "core ml": b"\x08\x04\x12\x04\x0a\x02ab\xa2\x1f\x00",
    "caffe2": b"\x0a\x03net\x12\x04\x0a\x02ab",
    "frozen graph": b"\x0a\x08\x0a\x01a\x12\x03Add",
    "tensor": b"\x08\x03\x10\x01\x4a\x0c" + bytes(12),
    "flatbuffer": b"\x1c\x00\x00\x00TFL3" + bytes(64),
    "ort flatbuffer": b"\x08\x00\x00\x00ORTM" + bytes(64),
    "safetensors": b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ",
    "versions alone": b"\x08\x0a\x42\x02\x10\x14",
}


@pytest.mark.parametrize("name", NOT_MODELS)
def test_other_files_are_not_taken_for_models(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(NOT_MODELS[name])
    assert not sniff(FileTarget(Source(path)))


def test_random_bytes_are_not_taken_for_models(tmp_path: Path) -> None:
    generator = random.Random(3)
    path = tmp_path / "file"
    for _ in range(3000):
        start = generator.choice((b"", b"\x08", b"\x08\x0a", b"\x12", b"\x3a", b"\x42"))
        path.write_bytes(start + generator.randbytes(generator.randrange(1, 300)))
        assert not sniff(FileTarget(Source(path)))
