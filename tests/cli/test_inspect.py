"""``bn-audit inspect``: the table, and what is exported where."""

from __future__ import annotations

import json
import re

import numpy
import pytest
import torch
from torch import nn


def rows(text: str) -> list[list[str]]:
    """The cells of each row of the table, by its two-space gaps."""
    table = text.split("\n\n")[1]
    return [re.split(r" {2,}", row) for row in table.splitlines()]


def test_the_table_says_what_torch_says(run, artifacts):
    outcome = run("inspect", artifacts / "eval.pt")
    assert outcome.code == 0
    header, *layers = rows(outcome.out)
    assert header == ["layer", "kind", "mode", "channels", "eps", "momentum", "batches", "mean", "variance", "dead"]
    model = torch.load(artifacts / "eval.pt", weights_only=False)
    expected = [
        [
            name,
            "BN",
            "eval",
            str(module.num_features),
            "1e-05",
            "0.1",
            "3",
            f"{module.running_mean.min():.3g} .. {module.running_mean.max():.3g}",
            f"{module.running_var.min():.3g} .. {module.running_var.max():.3g}",
            "0",
        ]
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    assert layers == expected


def test_what_the_artifact_does_not_say_is_a_dash(run, artifacts):
    _, first, _ = rows(run("inspect", artifacts / "weights.pt").out)
    assert first[:6] == ["1", "BN", "-", "4", "-", "-"]


def test_a_model_without_norm_layers_says_so(run, artifacts):
    outcome = run("inspect", artifacts / "plain.pt")
    assert outcome.code == 0
    assert "no norm layers" in outcome.out


def test_each_model_has_its_own_table(run, tmp_path):
    torch.save({"model": nn.BatchNorm1d(2), "ema": nn.BatchNorm1d(2).eval()}, tmp_path / "two.pt")
    outcome = run("inspect", tmp_path / "two.pt")
    assert outcome.code == 0
    assert "model 'model'" in outcome.out
    assert "model 'ema'" in outcome.out
    assert "(root)" in outcome.out


def test_hostile_names_do_not_reach_the_terminal(run, tmp_path):
    evil = "\x1b[31m[red]\r\n\u202e"
    model = nn.Sequential()
    model.add_module(evil, nn.BatchNorm1d(2))
    torch.save(model.eval(), tmp_path / "evil.pt")
    outcome = run("inspect", tmp_path / "evil.pt")
    assert outcome.code == 0
    assert all(row.isprintable() for row in outcome.out.splitlines())
    assert "[red]" in outcome.out


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".json", ".h", ".JSON"])
def test_export(run, artifacts, tmp_path, suffix):
    path = tmp_path / f"layers{suffix}"
    outcome = run("inspect", artifacts / "eval.pt", "--export", path)
    assert outcome.code == 0
    assert "wrote 2 layers" in outcome.err
    assert path.stat().st_size > 100


def test_the_fold_of_an_exported_file_is_what_torch_computes(run, artifacts, tmp_path):
    run("inspect", artifacts / "eval.pt", "--export", tmp_path / "layers.npz")
    module = torch.load(artifacts / "eval.pt", weights_only=False)[1]
    inputs = torch.randn(2, 4, 6, 6)
    with numpy.load(tmp_path / "layers.npz") as arrays:
        scale, shift = (torch.tensor(arrays[f"1/{name}"]).view(1, -1, 1, 1) for name in ("scale", "shift"))
    torch.testing.assert_close(scale * inputs + shift, module(inputs), rtol=1e-5, atol=1e-6)


def test_eps_is_needed_for_a_state_dict_and_used_as_given(run, artifacts, tmp_path):
    path = tmp_path / "layers.json"
    outcome = run("inspect", artifacts / "weights.pt", "--export", path)
    assert outcome.code == 2
    assert "--eps" in outcome.err
    assert not path.exists()
    assert run("inspect", artifacts / "weights.pt", "--export", path, "--eps", "0.001").code == 0
    assert {layer["eps"] for layer in json.loads(path.read_text())["layers"]} == {0.001}


@pytest.mark.parametrize("eps", ["nan", "inf", "-1", "x"])
def test_an_impossible_eps_is_a_usage_error(run, artifacts, eps):
    assert run("inspect", artifacts / "weights.pt", "--eps", eps).code == 2


def test_nothing_is_overwritten_without_force(run, artifacts, tmp_path):
    path = tmp_path / "layers.csv"
    path.write_text("mine")
    outcome = run("inspect", artifacts / "eval.pt", "--export", path)
    assert outcome.code == 2
    assert path.read_text() == "mine"
    assert run("inspect", artifacts / "eval.pt", "--export", path, "--force").code == 0
    assert path.read_text() != "mine"


def test_the_model_itself_is_not_overwritten_with_force(run, artifacts, tmp_path):
    model = tmp_path / "model.h"
    model.write_bytes((artifacts / "eval.pt").read_bytes())
    outcome = run("inspect", model, "--export", model, "--force")
    assert outcome.code == 2
    assert model.read_bytes() == (artifacts / "eval.pt").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["missing.pt"], 3),
        (["broken.pt"], 3),
        ([], 2),
        (["eval.pt", "--export", "layers.xlsx"], 2),
        (["plain.pt", "--export", "layers.h"], 2),
        (["eval.pt", "--weights", "weights.pt"], 2),
        (["."], 2),
    ],
)
def test_exit_code(run, artifacts, monkeypatch, arguments, code):
    monkeypatch.chdir(artifacts)
    outcome = run("inspect", *arguments)
    assert outcome.code == code
    assert outcome.err
    assert "Traceback" not in outcome.err
    assert not (artifacts / "layers.h").exists()
