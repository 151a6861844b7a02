"""Directories, globs and factories become candidates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bn_audit.errors import (
    MalformedFileError,
    MissingTargetError,
    NoModelError,
    UnknownFormatError,
    UnsupportedFormatError,
    UsageError,
)
from bn_audit.expansion import Candidate, expand, is_factory, single


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(root: Path, *targets: str) -> list[str]:
    candidates, _listed = expand(targets or [str(root)])
    return [str(Path(candidate.name).relative_to(root)) for candidate in candidates]


def test_a_directory_gives_its_artifacts_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b/model.pt", "a.safetensors", "notes.txt", "train.py", "c/deep/net.onnx", ".hidden.pt")
    assert names(tmp_path) == ["a.safetensors", "b/model.pt", "c/deep/net.onnx"]


def test_environments_and_dot_folders_are_skipped(tmp_path: Path) -> None:
    touch(tmp_path, "model.pt", ".git/x.pt", "env/pyvenv.cfg", "env/x.pt", "lib/site-packages/x.pt", "__pycache__/x.pt")
    assert names(tmp_path) == ["model.pt"]


def test_a_glob_is_expanded_and_each_file_counts_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.pt", "b.pt", "c.txt")
    assert names(tmp_path, str(tmp_path / "*.pt"), str(tmp_path / "a.pt")) == ["a.pt", "b.pt"]


def test_a_glob_that_matches_nothing_stays_a_candidate(tmp_path: Path) -> None:
    assert names(tmp_path, str(tmp_path / "*.pt")) == ["*.pt"]


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    touch(tmp_path, "m-1.safetensors", "m-2.safetensors", "other.safetensors")
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}))
    candidates, listed = expand([str(tmp_path)])
    assert [Path(candidate.name).name for candidate in candidates] == [index.name, "other.safetensors"]
    assert [Path(name).name for name, _reason in listed] == ["m-1.safetensors", "m-2.safetensors"]


def test_a_shard_that_is_named_is_audited(tmp_path: Path) -> None:
    touch(tmp_path, "m-1.safetensors")
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "m-1.safetensors"}}))
    targets = [str(tmp_path / "m-1.safetensors"), str(tmp_path)]
    assert "m-1.safetensors" in names(tmp_path, *targets)


@pytest.mark.parametrize("target", ["pkg.module:build", "module:Class.build", "m:f"])
def test_factories(target: str) -> None:
    assert is_factory(target)


@pytest.mark.parametrize("target", ["model.pt", "C:\\models\\m.pt", "dir/model.pt", "a:b:c", "http://x", "m:", ":f"])
def test_other_targets_are_no_factories(target: str) -> None:
    assert not is_factory(target)


@pytest.mark.parametrize(
    ("name", "is_named", "error", "expected"),
    [
        ("m.pt", True, NoModelError("x"), False),
        ("m.pt", False, NoModelError("x"), True),
        ("m.pt", False, UnknownFormatError("x"), False),
        ("m.bin", False, UnknownFormatError("x"), True),
        ("m.pt", False, MissingTargetError("x"), False),
        ("vocabulary.bin", False, UnknownFormatError("x"), True),
        ("pytorch_model.bin", False, UnknownFormatError("x"), False),
        ("pytorch_model-00001-of-00002.bin", False, UnknownFormatError("x"), False),
        ("model_best.pth.tar", False, UnknownFormatError("x"), False),
        ("data.tar", False, UnknownFormatError("x"), True),
        ("best.torchscript", False, UnknownFormatError("x"), False),
        ("m.tflite", False, UnsupportedFormatError("x"), True),
        ("m.tflite", True, UnsupportedFormatError("x"), False),
        ("m.pt", False, MalformedFileError("x"), False),
    ],
)
def test_which_files_of_a_directory_may_be_passed_by(
    name: str, is_named: bool, error: Exception, expected: bool
) -> None:
    assert Candidate(name=name, is_named=is_named).is_optional(error) is expected  # type: ignore[arg-type]


def test_one_side_of_a_comparison_is_a_file_or_the_only_artifact_of_a_directory(tmp_path: Path) -> None:
    touch(tmp_path, "one/model.pt", "one/notes.txt", "shards/m-1.safetensors", "two/a.pt", "two/b.pt", "none/x.txt")
    index = tmp_path / "shards" / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "m-1.safetensors"}}))
    assert single(str(tmp_path / "two" / "a.pt")) == str(tmp_path / "two" / "a.pt")
    assert single(str(tmp_path / "one")) == str(tmp_path / "one" / "model.pt")
    assert single(str(tmp_path / "shards")) == str(index)
    assert single(str(tmp_path / "tw*" / "a*")) == str(tmp_path / "two" / "a.pt")
    assert single("package.module:factory") == "package.module:factory"
    assert single("missing.pt") == "missing.pt"


@pytest.mark.parametrize(
    ("name", "message"), [("two", r"2 artifacts \(a\.pt, b\.pt\)"), ("none", "0 artifacts"), ("two/*", "2 artifacts")]
)
def test_a_side_with_none_or_several_is_a_usage_error(tmp_path: Path, name: str, message: str) -> None:
    touch(tmp_path, "two/a.pt", "two/b.pt", "none/x.txt")
    with pytest.raises(UsageError, match=message):
        single(str(tmp_path / name))
