"""The static commands work where torch, numpy, onnx and onnxruntime cannot be imported, and never try to."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command import HEAVY, Outcome, bn_audit_command
from safetensors.torch import save_file
from torch import nn
from zoo.catalogue import ZOO, Mode, network
from zoo.forms import export, quietly, script, trace

ARTIFACTS: dict[str, Callable[[Path], object]] = {
    "module.pt": lambda path: torch.save(trained(), path),
    "legacy.pt": lambda path: torch.save(trained(), path, _use_new_zipfile_serialization=False),
    "plain.pkl": lambda path: path.write_bytes(pickle.dumps(trained())),
    "state_dict.pth": lambda path: torch.save(trained().state_dict(), path),
    "half.pth": lambda path: torch.save(trained().half().state_dict(), path),
    "scripted.pt": lambda path: script(trained(), path),
    "traced.pt": lambda path: trace(trained(), path, ZOO["plain_cnn"].inputs()),
    "exported.pt2": lambda path: export(trained(), path, ZOO["plain_cnn"].inputs()),
    "model.safetensors": lambda path: save_file(trained().state_dict(), path),
}


def trained() -> nn.Module:
    return network("plain_cnn", Mode.TRAIN)


def written(name: str, directory: Path) -> Path:
    with quietly():
        ARTIFACTS[name](directory / name)
    return directory / name


@pytest.fixture(scope="module", params=sorted(ARTIFACTS))
def artifact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(request.param, tmp_path_factory.mktemp("artifact"))


def light(*arguments: str | Path) -> Outcome:
    outcome = bn_audit_command(*arguments, without=HEAVY)
    assert outcome.err.splitlines()[-1] == "attempted: ", outcome.text
    assert "Traceback" not in outcome.text
    return outcome


def test_check_needs_no_heavy_library(artifact: Path) -> None:
    outcome = light("check", artifact, "--no-flow", "--format", "json")
    report = json.loads(outcome.out)
    assert outcome.code == report["summary"]["exit_code"]
    assert not report["reports"][0]["failed"]
    assert len(report["reports"][0]["norms"]) == 2
    assert outcome.code == (0 if artifact.suffix in (".pth", ".safetensors") else 1)


READERS = {
    "module.pt": "_checkpoint",
    "legacy.pt": "_checkpoint",
    "plain.pkl": "_checkpoint",
    "state_dict.pth": "_checkpoint",
    "half.pth": "_checkpoint",
    "scripted.pt": "_torchscript",
    "traced.pt": "_torchscript",
    "exported.pt2": "_exported",
    "model.safetensors": None,
}
"""The folder of the reader that each artifact needs; its ``layout`` is what recognising the format takes."""


def test_only_the_reader_of_the_artifact_is_loaded(artifact: Path) -> None:
    loaded = light("check", artifact, "--no-flow").err.splitlines()[-2].removeprefix("loaded: ").split(",")
    parts = [name.split(".")[2:] for name in loaded if name.startswith("bn_audit.formats._")]
    folders = {folder for folder, *module in parts if module and module != ["layout"]}
    assert folders - {READERS[artifact.name]} == set()


def test_what_comparisons_need_is_loaded_by_comparisons(artifact: Path) -> None:
    loaded = light("check", artifact, "--no-flow").err.splitlines()[-2].removeprefix("loaded: ").split(",")
    needed = ("bn_audit.alignment", "bn_audit.subject.comparison", "bn_audit.subject.drift", "bn_audit.reporters._comp")
    assert [name for name in loaded if name.startswith(needed)] == []


def test_what_runs_need_is_loaded_by_runs(artifact: Path) -> None:
    loaded = light("check", artifact, "--no-flow").err.splitlines()[-2].removeprefix("loaded: ").split(",")
    needed = ("bn_audit.running", "bn_audit.measuring", "bn_audit.experiments.", "bn_audit.runners.")
    needed += ("bn_audit.sampling", "bn_audit.subject.observation", "bn_audit.reporters._obs")
    assert [name for name in loaded if name.startswith(needed) or name == "bn_audit.subject.run"] == []


def test_text_report_needs_no_heavy_library(artifact: Path) -> None:
    outcome = light("check", artifact, "--no-flow")
    assert "verdict:" in outcome.out


def test_following_the_batch_needs_numpy_alone(tmp_path: Path) -> None:
    path = written("exported.pt2", tmp_path)
    outcome = bn_audit_command("check", path, without=tuple(name for name in HEAVY if name != "numpy"))
    assert outcome.err.splitlines()[-1] == "attempted: ", outcome.text
    assert "batch flow: " in outcome.out


def test_inspect_needs_no_heavy_library(artifact: Path) -> None:
    assert light("inspect", artifact).code == 0


@pytest.mark.parametrize("suffix", ["csv", "json", "h"])
def test_inspect_exports_text_without_numpy(suffix: str, tmp_path: Path) -> None:
    path = written("module.pt", tmp_path)
    outcome = light("inspect", path, "--export", tmp_path / f"norms.{suffix}")
    assert outcome.code == 0
    assert (tmp_path / f"norms.{suffix}").stat().st_size > 100


def test_directory_needs_no_heavy_library(tmp_path: Path) -> None:
    for name in ("module.pt", "state_dict.pth"):
        written(name, tmp_path)
    assert light("check", tmp_path).code == 1


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("explain",), ("explain", "BN101")])
def test_information_needs_no_heavy_library(arguments: tuple[str, ...]) -> None:
    assert light(*arguments).code == 0
