"""The README says what the program does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import OrderedDict
from typing import Any

import pytest
import readme
import torch
import typer
from torch import nn

import bn_audit
from bn_audit import plugins
from bn_audit.cli.app import application

TEXT = readme.README.read_text(encoding="utf-8")


def test_generated_parts_are_up_to_date() -> None:
    assert readme.regenerated(TEXT) == TEXT, "run: python tests/readme.py"


def test_every_generated_part_is_there_and_full() -> None:
    parts = dict(re.findall(r"<!-- generated: (\w+) -->\n(.*?)<!-- end -->", TEXT, re.DOTALL))
    assert set(parts) == set(readme.GENERATORS)
    assert "BN101 train-mode" in parts["example"]
    assert parts["rules"].count("\n") == len(plugins.rules()) + 2
    assert parts["formats"].count("\n") == len(plugins.formats()) + 2


def test_the_first_two_shell_blocks_are_one_line_each() -> None:
    first, second = readme.shell_blocks(TEXT)[:2]
    assert "\n" not in first + second
    assert first.startswith("python3 -m venv ")
    assert second.endswith("&& pytest -n auto")
    assert all("-c .ci/constraints.txt" in line for line in (first, second))


def test_the_example_names_the_finding_and_the_exit_code_that_the_text_promises() -> None:
    assert readme.example_command(TEXT)[:2] == ["bn-audit", "check"]
    assert "ends with exit code 1" in TEXT


def python_blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def test_the_examples_on_a_running_model_run() -> None:
    block = next(code for code in python_blocks() if "guard(" in code)
    model = nn.Sequential(OrderedDict(backbone=nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))).eval()
    names: dict[str, Any] = {"bn_audit": bn_audit, "torch": torch, "model": model, "sample": torch.randn(1, 3, 8, 8)}
    exec(compile(block, "README", "exec"), names)
    assert names["handle"].paths == ("backbone.1",)
    assert model.backbone[1].training


def test_the_assertions_shown_are_those_of_the_package() -> None:
    block = next(code for code in python_blocks() if "assert_inference_ready" in code)
    names: dict[str, Any] = {
        "make_model": lambda: nn.Sequential(nn.BatchNorm1d(3)).train(),
        "samples": torch.randn(4, 3),
    }
    exec(compile(block, "README", "exec"), names)
    with pytest.raises(AssertionError, match="BN101"):
        names["test_model"]()


def test_the_python_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code = python_blocks()[0]
    monkeypatch.chdir(readme.ROOT)
    from bn_audit import FindingsError

    with pytest.raises(FindingsError, match="BN101"):
        exec(compile(code.replace("model.pt", "fixtures/train_mode.pt"), "README", "exec"), {})
    assert "BN101 error" in capsys.readouterr().out


def test_every_option_that_the_text_names_is_an_option_of_some_command() -> None:
    texts = [
        subprocess.run(
            [sys.executable, "-m", "bn_audit", *command, "--help"],
            cwd=readme.ROOT,
            env={**os.environ, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for command in ([], *([name] for name in typer.main.get_command(application()).commands))
    ]
    named = set(re.findall(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*", TEXT))
    assert {option for option in named if not any(option in text for text in texts)} == set()
