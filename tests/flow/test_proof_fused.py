"""Models as onnxruntime optimises and quantises them: its own operators, proved and measured."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import flow_networks as nets
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx_graphs import Draw, exported, floats, measured, proof_of
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from torch import nn

IMAGE = (3, 16, 16)


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.LeakyReLU(), nn.Conv2d(8, 8, 1))
        self.two, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.one(x).sigmoid(), self.two(x)
        return self.head(torch.cat([a + b, a * b], 1).mean((2, 3))).softmax(-1)


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(18, 3, 36, batch_first=True, activation="gelu")
    return nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Flatten(), nn.Linear(126, 3))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Draw]] = {
    "convolutions": (Convolutions, floats(*IMAGE)),
    "transformer": (transformer, floats(7, 18)),
    "windows": (lambda: nets.Windows(shift=2), floats(*IMAGE)),
    "lstm": (lambda: nets.Recurrent(nn.LSTM, True), floats(7, 5)),
    "leaking windows": (lambda: nets.Windows("tiled"), floats(*IMAGE)),
}


class Calibration(CalibrationDataReader):
    def __init__(self, draw: Draw) -> None:
        self._batches: Iterator[dict[str, np.ndarray]] = iter(
            [{"x0": draw(np.random.default_rng(seed), 4)} for seed in range(3)]
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def plain(name: str) -> bytes:
    build, draw = NETWORKS[name]
    torch.manual_seed(0)
    return exported(build().eval(), (torch.from_numpy(draw(np.random.default_rng(0), 3)),))


def optimised(model: bytes, folder: Path) -> bytes:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return (folder / "optimised.onnx").read_bytes()


def quantised(name: str, folder: Path, how: QuantFormat | None) -> bytes:
    source, target = folder / "plain.onnx", folder / "quantised.onnx"
    source.write_bytes(plain(name))
    logging.disable(logging.WARNING)
    try:
        if how is None:
            quantize_dynamic(source, target)
        else:
            quantize_static(source, target, Calibration(NETWORKS[name][1]), quant_format=how)
    finally:
        logging.disable(logging.NOTSET)
    return target.read_bytes()


def operators(model: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_from_string(model).graph.node}


def assert_proved(name: str, model: bytes, expected: str) -> None:
    assert measured(model, [NETWORKS[name][1]]) == [expected]
    (flow,) = proof_of(model).outputs
    assert flow.verdict == expected, flow


def truth_of(name: str) -> str:
    return "mixes" if name.startswith("leaking") else "independent"


@pytest.mark.parametrize("name", NETWORKS)
def test_optimised(name: str, tmp_path: Path) -> None:
    assert_proved(name, optimised(plain(name), tmp_path), truth_of(name))


@pytest.mark.parametrize("how", [QuantFormat.QDQ, QuantFormat.QOperator])
@pytest.mark.parametrize("name", NETWORKS)
def test_ranges_known_beforehand_do_not_mix(name: str, how: QuantFormat, tmp_path: Path) -> None:
    model = quantised(name, tmp_path, how)
    assert_proved(name, model, truth_of(name))
    assert_proved(name, optimised(model, tmp_path), truth_of(name))


@pytest.mark.parametrize("name", NETWORKS)
def test_one_range_for_the_batch_mixes(name: str, tmp_path: Path) -> None:
    model = quantised(name, tmp_path, None)
    for form in (model, optimised(model, tmp_path)):
        assert_proved(name, form, "mixes")
        kinds = {mark.kind for mark in proof_of(form).marks}
        assert "quantises" in kinds
        assert ("mixes" in kinds) == (truth_of(name) == "mixes")


def test_the_operators_of_the_runtime_are_there(tmp_path: Path) -> None:
    fused = {"BiasGelu", "FusedConv", "QLinearConv", "QGemm", "DynamicQuantizeMatMul"}
    seen = operators(optimised(plain("transformer"), tmp_path)) | operators(optimised(plain("convolutions"), tmp_path))
    seen |= operators(quantised("convolutions", tmp_path, QuantFormat.QOperator))
    seen |= operators(optimised(quantised("transformer", tmp_path, None), tmp_path))
    assert fused <= seen
