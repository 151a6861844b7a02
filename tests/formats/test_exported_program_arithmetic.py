"""Layers that a program computes with plain arithmetic are told by the statistics it uses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from exported_networks import quietly, read, save
from torch import nn

from bn_audit import check
from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import Mode, NormKind


class EvoNorm(nn.Module):
    """EvoNorm-B0 as timm writes it: a variance over the batch, without a batch-norm call."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.bias = nn.Parameter(torch.zeros(4))
        self.v = nn.Parameter(torch.ones(4))
        self.register_buffer("running_var", torch.rand(4) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            var = x.var(dim=(0, 2, 3), unbiased=False)
            self.running_var.copy_(self.running_var * 0.9 + var.detach() * 0.1)
        else:
            var = self.running_var
        return x / (var + 1e-3).sqrt().view(1, 4, 1, 1) * self.weight.view(1, 4, 1, 1) + self.bias.view(1, 4, 1, 1)


class FrozenBatchNorm(nn.Module):
    """As torchvision and detectron2 write it: buffers only."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(4) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        return x * scale.view(1, 4, 1, 1) + (self.bias - self.running_mean * scale).view(1, 4, 1, 1)


class Unused(nn.Module):
    """A batch norm that the forward pass leaves out, as an auxiliary head in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.BatchNorm2d(4)
        self.auxiliary = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(x)


def saved(norm: nn.Module, tmp_path: Path, *, training: bool, decomposed: bool = False) -> Path:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), norm).train(training)

    def exported() -> torch.export.ExportedProgram:
        program = torch.export.export(model, (torch.randn(2, 3, 6, 6),))
        return program.run_decompositions({}) if decomposed else program

    return save(quietly(exported), tmp_path / "model.pt2")


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_a_program_that_writes_statistics_is_in_training_mode(tmp_path: Path, training: bool, decomposed: bool) -> None:
    path = saved(EvoNorm(), tmp_path, training=training, decomposed=decomposed)
    (norm,) = read(path).norms
    assert (norm.path, norm.kind, norm.confidence) == ("1", NormKind.BATCH_NORM, Confidence.MEDIUM)
    assert norm.mode is (Mode.TRAIN if training else Mode.UNKNOWN)
    assert norm.uses_batch_statistics is (True if training else None)
    codes = [finding.code for finding in check(path, flow=False).findings]
    assert codes == (["BN310"] if training else ["BN111"])


@pytest.mark.parametrize("training", [False, True])
def test_a_frozen_batch_norm_ignores_the_mode(tmp_path: Path, training: bool) -> None:
    path = saved(FrozenBatchNorm(), tmp_path, training=training)
    (norm,) = read(path).norms
    assert (norm.path, norm.kind, norm.uses_batch_statistics) == ("1", NormKind.FROZEN_BATCH_NORM, False)
    assert check(path).findings == ()


def test_statistics_that_no_call_uses_make_no_layer(tmp_path: Path) -> None:
    path = saved(Unused(), tmp_path, training=False)
    assert [norm.path for norm in read(path).norms] == ["1.used"]
