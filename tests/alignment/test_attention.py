"""Attention keeps one weight for query, key and value; a graph keeps it without its name."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import bn_audit


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.norm, self.head = nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.layer(x).mean(1)))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = Encoder()
    for _ in range(2):
        model(torch.randn(4, 5, 8))
    torch.save(model.eval(), tmp_path / "model.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            torch.randn(2, 5, 8),
            tmp_path / "model.onnx",
            dynamo=False,
            dynamic_axes={"x": {0: "n"}},
            input_names=["x"],
        )
    with torch.no_grad():
        model.layer.self_attn.in_proj_weight[3, 4] += 0.5
    torch.save(model, tmp_path / "other.pt")
    return tmp_path


def test_a_model_fits_its_own_export(files: Path) -> None:
    report = bn_audit.compare(files / "model.pt", files / "model.onnx", values="all")
    assert not report.findings
    assert report.comparison is not None
    assert not report.comparison.values.mismatched


def test_another_weight_of_attention_is_found(files: Path) -> None:
    report = bn_audit.compare(files / "other.pt", files / "model.onnx", values="all")
    assert [finding.code for finding in report.findings] == ["BN224"]
    assert report.comparison is not None
    [mismatch] = report.comparison.values.mismatched
    assert (mismatch.reference, mismatch.beyond) == ("layer.self_attn.in_proj_weight", 1)
