"""Norms written as arithmetic: which of them take their mean over the samples."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from bn_audit.audit import read_subject
from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import InputOrigin, ModeOrigin, NormKind, NormLayer

CHANNELS = 4


class Normalised(nn.Module):
    """A convolution and a norm that is given as a function of (x, weight, bias)."""

    def __init__(self, norm: Callable[[Tensor, Tensor, Tensor], Tensor], *, flat: bool = False) -> None:
        super().__init__()
        self.norm = norm
        self.flat = flat
        self.conv = nn.Conv2d(3, CHANNELS, 3)
        self.gain = nn.Parameter(torch.arange(1.0, CHANNELS + 1))
        self.shift = nn.Parameter(torch.arange(2.0, CHANNELS + 2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.flat:
            y = y.mean((2, 3))
            return self.norm(y, self.gain, self.shift)
        return self.norm(y, self.gain[:, None, None], self.shift[:, None, None])


def _over(*axes: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        mean = x.mean(axes, keepdim=True)
        centred = x - mean
        variance = (centred * centred).mean(axes, keepdim=True)
        return centred / torch.sqrt(variance + 1e-3) * weight + bias

    return norm


def _by_power(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    return (x - mean) * (variance + 1e-3) ** -0.5 * weight + bias


def _by_reciprocal(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = (x - mean).pow(2).mean((0, 2, 3), keepdim=True)
    return (x - mean) * torch.rsqrt(variance + 1e-3) * weight + bias


def _by_squares(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = (x * x).mean((0, 2, 3), keepdim=True) - mean * mean
    return (x - mean) / (variance + 1e-3).sqrt() * weight + bias


def _unbiased(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    variance = x.var((0, 2, 3), keepdim=True)
    return (x - x.mean((0, 2, 3), keepdim=True)) / (variance + 1e-3).sqrt() * weight + bias


def _channels_last(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    x = x.permute(0, 2, 3, 1)
    mean = x.mean((0, 1, 2), keepdim=True)
    variance = (x - mean).pow(2).mean((0, 1, 2), keepdim=True)
    y = (x - mean) / (variance + 1e-3).sqrt()
    return y.permute(0, 3, 1, 2) * weight + bias


def _group(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    grouped = x.reshape(x.shape[0], 2, -1)
    mean = grouped.mean(2, keepdim=True)
    variance = (grouped - mean).pow(2).mean(2, keepdim=True)
    return ((grouped - mean) / (variance + 1e-3).sqrt()).reshape(x.shape) * weight + bias


def _instances(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    folded = x.reshape(1, x.shape[0] * x.shape[1], *x.shape[2:])
    mean = folded.mean((0, 2, 3), keepdim=True)
    variance = (folded - mean).pow(2).mean((0, 2, 3), keepdim=True)
    return ((folded - mean) / (variance + 1e-3).sqrt()).reshape(x.shape) * weight + bias


def _spread_as_feature(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = x - x.mean((0, 2, 3), keepdim=True)
    return x * weight + bias + ((centred * centred).mean((0, 2, 3), keepdim=True) + 1e-3).sqrt()


def _everything(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = x - x.mean((0, 1, 2, 3), keepdim=True)
    return centred / ((centred * centred).mean((0, 1, 2, 3), keepdim=True) + 1e-3).sqrt() * weight + bias


BATCH_NORMS = {
    "division": Normalised(_over(0, 2, 3)),
    "power": Normalised(_by_power),
    "reciprocal": Normalised(_by_reciprocal),
    "squares": Normalised(_by_squares),
    "unbiased": Normalised(_unbiased),
    "channels last": Normalised(_channels_last),
    "features": Normalised(_over(0), flat=True),
}
OTHERS = {
    "layer": Normalised(_over(1, 2, 3)),
    "layer over features": Normalised(_over(1), flat=True),
    "last axis": Normalised(_over(-1)),
    "instance": Normalised(_over(2, 3)),
    "group": Normalised(_group),
    "instances folded into the channels": Normalised(_instances),
    "spread as a feature": Normalised(_spread_as_feature),
    "everything at once": Normalised(_everything),
    "one position": Normalised(_over(0)),
}


def exported_norms(model: nn.Module, directory: Path, *, dynamo: bool) -> tuple[NormLayer, ...]:
    path = directory / "model.onnx"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        x = torch.randn(5, 3, 6, 6)
        axes = {"x": {0: "N"}} if not dynamo else None
        torch.onnx.export(model, (x,), path, dynamo=dynamo, input_names=["x"], dynamic_axes=axes, verbose=False)
        logging.disable(logging.NOTSET)
    with read_subject(path) as subject:
        return subject.norms


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("name", BATCH_NORMS)
def test_batch_norm_is_recognised(name: str, dynamo: bool, tmp_path: Path) -> None:
    (norm,) = exported_norms(BATCH_NORMS[name], tmp_path, dynamo=dynamo)
    assert norm.kind is NormKind.BATCH_NORM
    assert norm.mode_origin is ModeOrigin.ONNX_COMPUTED
    assert norm.uses_batch_statistics is True
    assert norm.input_origin is InputOrigin.ACTIVATIONS
    assert norm.confidence is Confidence.HIGH
    assert norm.eps == pytest.approx(1e-3)
    if name != "channels last":
        assert norm.weight is not None
        assert list(norm.weight.values()) == [1.0, 2.0, 3.0, 4.0]
        assert norm.bias is not None
        assert list(norm.bias.values()) == [2.0, 3.0, 4.0, 5.0]
        assert norm.num_features == CHANNELS


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("name", OTHERS)
def test_other_arithmetic_is_no_batch_norm(name: str, dynamo: bool, tmp_path: Path) -> None:
    norms = exported_norms(OTHERS[name], tmp_path, dynamo=dynamo)
    assert [norm for norm in norms if norm.uses_batch_statistics is not False] == []


def mean_variance(directory: Path, **attributes: object) -> tuple[NormLayer, ...]:
    node = helper.make_node("MeanVarianceNormalization", ["x"], ["y"], name="mvn", **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    path = directory / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString())
    with read_subject(path) as subject:
        return subject.norms


def test_mean_variance_normalisation_takes_the_samples_in_unless_told_otherwise(tmp_path: Path) -> None:
    (norm,) = mean_variance(tmp_path)
    assert (norm.uses_batch_statistics, norm.path, norm.num_features) == (True, "mvn", 3)
    assert mean_variance(tmp_path, axes=[2, 3]) == ()
    assert mean_variance(tmp_path, axes=[0, -1, -2])[0].uses_batch_statistics is True
