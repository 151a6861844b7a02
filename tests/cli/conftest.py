"""Artifacts and a way to run the command line in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from bn_audit.__main__ import main


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command left: its exit code and its two streams."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs ``bn-audit`` with the given arguments."""

    def _run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["bn-audit", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code = ended.value.code
        return Outcome(code=0 if code is None else int(code), out=captured.out, err=captured.err)

    return _run


def network() -> nn.Module:
    """Return a small network whose running statistics have moved."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    for _ in range(3):
        model(torch.randn(4, 3, 8, 8))
    return model


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with train.pt, eval.pt, weights.pt (a state dict), plain.pt (no norm layer) and broken.pt."""
    directory = tmp_path_factory.mktemp("artifacts")
    torch.save(network().train(), directory / "train.pt")
    torch.save(network().eval(), directory / "eval.pt")
    torch.save(network().state_dict(), directory / "weights.pt")
    torch.save(nn.Linear(2, 2).eval(), directory / "plain.pt")
    (directory / "broken.pt").write_bytes((directory / "eval.pt").read_bytes()[:700])
    return directory
