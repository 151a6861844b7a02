"""TorchScript: every dropout and random operator that runs, with its probability, as switched by flag or literal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bn_audit.containers.source import Source
from bn_audit.containers.target import FileTarget
from bn_audit.formats.torchscript import FORMAT

pytestmark = pytest.mark.filterwarnings("ignore")

Draw = tuple[str, str, bool, float | None, bool | None]

ROWS = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))


def draws(path: Path) -> set[Draw]:
    with Source(path) as source:
        calls = FORMAT.read(FileTarget(source)).random_calls
    return {(call.path, call.op, call.is_dropout, call.probability, call.live) for call in calls}


def scripted(tmp_path: Path, model: nn.Module) -> set[Draw]:
    torch.jit.script(model).save(str(tmp_path / "model.pt"))
    return draws(tmp_path / "model.pt")


def traced(tmp_path: Path, model: nn.Module) -> set[Draw]:
    torch.jit.trace(model, (ROWS,), check_trace=False).save(str(tmp_path / "model.pt"))
    return draws(tmp_path / "model.pt")


class Random(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.25)
        self.off = nn.Dropout(0.0)
        self.alpha = nn.AlphaDropout(0.5)
        self.relu = nn.RReLU()
        self.lstm = nn.LSTM(3, 3, num_layers=2, dropout=0.2)
        self.single = nn.GRU(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.alpha(self.off(self.drop(x))))
        x = self.single(self.lstm(x)[0])[0]
        x = F.dropout(x, 0.125, training=True)
        attended = F.scaled_dot_product_attention(x, x, x, dropout_p=0.375)
        return F.scaled_dot_product_attention(x, x, attended) + torch.randn_like(x)


@pytest.mark.parametrize("flag", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("form", [scripted, traced])
def test_random_calls(form: Callable[..., set[Draw]], flag: bool, tmp_path: Path) -> None:
    assert form(tmp_path, Random().train(flag)) == {
        ("drop", "aten::dropout", True, 0.25, flag),
        ("off", "aten::dropout", True, 0.0, False),
        ("alpha", "aten::alpha_dropout", True, 0.5, flag),
        ("relu", "aten::rrelu", False, None, flag),
        # A scripted LSTM keeps its dropout argument in evaluation, a traced one too.
        ("lstm", "aten::lstm", True, 0.2, flag),
        ("", "aten::dropout", True, 0.125, True),
        ("", "aten::scaled_dot_product_attention", True, 0.375, True),
        ("", "aten::randn_like", False, None, True),
    }


def test_dropout_in_a_dead_branch_is_no_call(tmp_path: Path) -> None:
    class Gated(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                x = F.dropout(x, 0.5, training=True)
            return x

    assert scripted(tmp_path, Gated().eval()) == set()
    assert scripted(tmp_path, Gated()) == {("", "aten::dropout", True, 0.5, True)}


@pytest.mark.parametrize("flag", [True, False], ids=["train", "eval"])
def test_live_calls_are_those_that_make_runs_differ(flag: bool, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).train(flag)
    for form in (scripted, traced):
        ((path, _op, _is_dropout, _probability, live),) = form(tmp_path, model)
        loaded = torch.jit.load(str(tmp_path / "model.pt"))
        assert path == "1"
        assert live == any(not torch.equal(loaded(ROWS), loaded(ROWS)) for _ in range(8))
