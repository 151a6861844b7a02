"""The command that repeats a measurement."""

from __future__ import annotations

import itertools
import shlex

from bn_audit.measuring.reproduction import command_of
from bn_audit.subject.run import Job


def test_sizes_and_seed_are_always_told() -> None:
    command = command_of("model.onnx", Job(source="/x/model.onnx", format="onnx"))
    assert command == "bn-audit sweep model.onnx --batch-sizes 1,2,3,8 --seed 0"


def test_everything_that_was_asked_for_comes_back_from_the_shell() -> None:
    job = Job(
        source="m",
        format="torch-checkpoint",
        tier="quick",
        inputs=("x y=float32:3x4",),
        inputs_file="real samples.npz",
        batch_axis=0,
        weights="w'.pt",
        device="cuda:1",
        dtype="bfloat16",
        threads=2,
        time_limit=30.0,
        memory_limit=1000,
        trust=True,
        seed=5,
    )
    words = shlex.split(command_of("my model.pt", job))
    assert words[:3] == ["bn-audit", "sweep", "my model.pt"]
    assert "--quick" in words
    assert "--trust" in words
    pairs = dict(itertools.pairwise(words))
    assert pairs["--input"] == "x y=float32:3x4"
    assert pairs["--inputs"] == "real samples.npz"
    assert pairs["--weights"] == "w'.pt"
    assert pairs["--batch-axis"] == "0"
    assert pairs["--time-limit"] == "30"
    assert pairs["--memory-limit"] == "1000"
