"""Dropout and other random operators of exported programs: whether they are live, measured by running them twice."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from exported_networks import export, read, save
from torch import Tensor, nn
from torch.nn import functional


class Dropping(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.drop = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x + 1)


class Attention(nn.Module):
    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(x, x, x, dropout_p=self.probability)


class Calls(nn.Module):
    def __init__(self, call) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


def differs(program: torch.export.ExportedProgram, shape: tuple[int, ...]) -> bool:
    torch.manual_seed(1)
    module, x = program.module(), torch.randn(4, *shape)
    with torch.no_grad():
        return not torch.equal(module(x), module(x))


LAYERS = {
    "dropout": lambda: nn.Dropout(0.3),
    "inplace": lambda: nn.Dropout(0.3, inplace=True),
    "alpha": lambda: nn.AlphaDropout(0.3),
    "channels": lambda: nn.Dropout2d(0.3),
    "feature_alpha": lambda: nn.FeatureAlphaDropout(0.3),
    "off": lambda: nn.Dropout(0.0),
    "rrelu": lambda: nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.RReLU()),
}


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", LAYERS)
def test_random_layers(name: str, mode: str, decomposed: bool, tmp_path: Path) -> None:
    shape = (3, 6, 6)
    program = export(Dropping(LAYERS[name]()).train(mode == "train"), shape, "decomposed" if decomposed else "static")
    calls = read(save(program, tmp_path / "program.pt2")).random_calls
    assert any(call.live for call in calls) == differs(program, shape)
    if not decomposed:
        (call,) = calls
        assert call.live == (mode == "train" and name != "off")
        assert call.path == ("drop.1" if name == "rrelu" else "drop")
        assert call.is_dropout == (name != "rrelu")
        assert call.probability == {"rrelu": None, "off": 0.0}.get(name, 0.3)
        assert call.op.startswith("aten.")
        assert call.node


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("probability", [0.0, 0.4])
def test_attention_drops_in_either_mode(probability: float, mode: str, tmp_path: Path) -> None:
    program = export(Attention(probability).train(mode == "train"), (2, 5, 4), "static")
    calls = read(save(program, tmp_path / "program.pt2")).random_calls
    assert [(call.live, call.is_dropout, call.probability) for call in calls] == (
        [(True, True, 0.4)] if probability else []
    )
    assert bool(calls) == differs(program, (2, 5, 4))


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("layers", [1, 2])
def test_recurrent_layers_drop_between_layers(layers: int, mode: str, tmp_path: Path) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(4, 4, num_layers=layers, dropout=0.5 if layers > 1 else 0.0, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0]

    program = export(Recurrent().train(mode == "train"), (5, 4), "static")
    calls = read(save(program, tmp_path / "program.pt2")).random_calls
    assert any(call.live for call in calls) == differs(program, (5, 4))
    assert [call.path for call in calls] == (["rnn"] if layers > 1 else [])


OTHERS = {
    "rand_like": lambda x: x + torch.rand_like(x),
    "randn": lambda x: x + torch.randn(3, 6, 6),
    "randint": lambda x: x + torch.randint(0, 9, (6,)),
    "randperm": lambda x: x + torch.randperm(36).view(6, 6),
    "bernoulli": lambda x: x * torch.bernoulli(torch.full_like(x, 0.5)),
    "bernoulli_": lambda x: x * torch.empty_like(x).bernoulli_(0.5),
    "multinomial": lambda x: x + torch.multinomial(torch.ones(36), 6),
    "normal": lambda x: x + torch.normal(x, 1.0),
    "poisson": lambda x: torch.poisson(x.abs() * 9),
    "uniform_": lambda x: x + torch.empty_like(x).uniform_(),
    "exponential_": lambda x: x + torch.empty_like(x).exponential_(),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_sources_of_randomness(name: str, tmp_path: Path) -> None:
    program = export(Calls(OTHERS[name]).eval(), (3, 6, 6), "static")
    calls = read(save(program, tmp_path / "program.pt2")).random_calls
    assert [(call.live, call.is_dropout, call.probability) for call in calls] == [(True, False, None)]
    assert f".{name}" in f".{calls[0].op}"
    assert differs(program, (3, 6, 6))


def test_deterministic_program_draws_nothing(tmp_path: Path) -> None:
    program = export(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()).eval(), (3, 6, 6), "static")
    assert read(save(program, tmp_path / "program.pt2")).random_calls == ()
