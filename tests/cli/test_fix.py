"""``bn-audit fix``: exit codes, what is shown, and what is written."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from conftest import Run, network


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.save(network().train(), tmp_path / "model.pt")
    torch.save(network().eval(), tmp_path / "ready.pt")
    torch.save(network().state_dict(), tmp_path / "weights.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network().train(), torch.randn(2, 3, 8, 8), check_trace=False).save(tmp_path / "traced.pt")
    (tmp_path / "broken.pt").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "there.pt").write_bytes(b"mine")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["model.pt", "-o", "fixed.pt"], 0),
        (["model.pt", "-o", "there.pt"], 2),
        (["model.pt", "-o", "there.pt", "--overwrite"], 0),
        (["model.pt", "-o", "model.pt", "--overwrite"], 2),
        (["model.pt", "-o", "no/fixed.pt"], 2),
        (["model.pt"], 2),
        (["model.pt", "--diff", "-o", "fixed.pt"], 2),
        (["model.pt", "--diff"], 1),
        (["ready.pt", "--diff"], 0),
        (["ready.pt", "-o", "fixed.pt"], 0),
        (["weights.pt", "-o", "fixed.pt"], 3),
        (["weights.pt", "--diff"], 3),
        (["broken.pt", "-o", "fixed.pt"], 3),
        (["missing.pt", "-o", "fixed.pt"], 3),
        (["model.pt", "-o", "fixed.pt", "--free-batch"], 2),
        ([".", "-o", "fixed.pt"], 2),
        (["package:factory", "-o", "fixed.pt"], 2),
    ],
)
def test_exit_code(run: Run, model: Path, arguments: list[str], code: int) -> None:
    before = (model / "model.pt").read_bytes()
    assert run("fix", *arguments).code == code
    assert (model / "model.pt").read_bytes() == before


def test_baked_in_modes_are_refused(run: Run, model: Path) -> None:
    outcome = run("fix", "traced.pt", "-o", "fixed.pt")
    assert outcome.code == 3
    assert "not repaired: BN308" in outcome.out
    assert not (model / "fixed.pt").exists()


def test_the_changes_are_named(run: Run, model: Path) -> None:
    outcome = run("fix", "model.pt", "--diff")
    assert "training: True -> False (6)" in outcome.out
    assert "1  torch.nn.modules.batchnorm.BatchNorm2d" in outcome.out
    assert "nothing was written" in outcome.out


def test_a_refusal_says_what_to_do(run: Run, model: Path) -> None:
    outcome = run("fix", "weights.pt", "-o", "fixed.pt")
    assert "not repaired: a state dict records no mode: call model.eval()" in outcome.out
    assert not (model / "fixed.pt").exists()


def test_machines_get_the_report_of_the_copy_alone(run: Run, model: Path) -> None:
    outcome = run("fix", "model.pt", "-o", "fixed.pt", "--format", "json")
    report = json.loads(outcome.out)
    assert report["reports"][0]["source"] == "fixed.pt"
    assert "training: True -> False (6)" in outcome.err


def test_a_waiver_keeps_dropout_switched_on(run: Run, model: Path) -> None:
    torch.save(torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Dropout()), model / "mc.pt")
    (model / "pyproject.toml").write_text(
        "[[tool.bn-audit.waiver]]\nintent = 'mc-dropout'\npath = 'mc.pt'\nreason = 'samples its predictions'\n"
    )
    outcome = run("fix", "mc.pt", "-o", "fixed.pt")
    assert "1 stays in training mode: samples its predictions" in outcome.out
    result = torch.load(model / "fixed.pt", weights_only=False)
    assert [module.training for module in result.modules()] == [False, False, True]
