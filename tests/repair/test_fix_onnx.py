"""Repaired ONNX graphs: onnxruntime answers with them as the model does in evaluation mode."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from zoo.catalogue import ZOO, Mode, network

from bn_audit.options import Options, SweepOptions
from bn_audit.repair.fixing import Fixed, fix

NAMES = ("plain_cnn", "resnet", "mlp_bn1d", "with_dropout", "densenet", "mobilenet")


def exported(model: nn.Module, inputs: tuple[Tensor, ...], path: Path, *, opset: int = 17, free: bool = True) -> Path:
    """Write a model as it is, in training mode too."""
    names = [f"x{index}" for index in range(len(inputs))]
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            inputs,
            stream,
            dynamo=False,
            opset_version=opset,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            input_names=names,
            dynamic_axes={name: {0: "batch"} for name in names} if free else None,
        )
    path.write_bytes(stream.getvalue())
    return path


def answer(path: Path, inputs: tuple[Tensor, ...]) -> np.ndarray:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]
    return session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})[0]


def expected(model: nn.Module, inputs: tuple[Tensor, ...]) -> np.ndarray:
    """Return the answer in evaluation mode; an export in training mode has moved the statistics."""
    with torch.no_grad():
        return model.eval()(*inputs).numpy()


@pytest.mark.parametrize("opset", [9, 13, 17])
@pytest.mark.parametrize("name", NAMES)
def test_training_form_becomes_inference_form(tmp_path: Path, name: str, opset: int) -> None:
    inputs, model = ZOO[name].inputs(), network(name, Mode.TRAIN)
    path = exported(model, inputs, tmp_path / "model.onnx", opset=opset)
    before = path.read_bytes()
    fixed = fix(path, tmp_path / "fixed.onnx")
    assert fixed.repair is not None
    assert not fixed.repair.refused
    assert fixed.after is not None
    assert not [finding.code for finding in fixed.after.reports[0].findings]
    assert path.read_bytes() == before
    onnx.checker.check_model(str(tmp_path / "fixed.onnx"), full_check=True)
    np.testing.assert_allclose(answer(tmp_path / "fixed.onnx", inputs), expected(model, inputs), rtol=1e-4, atol=1e-5)


def test_live_dropout_is_removed(tmp_path: Path) -> None:
    inputs = ZOO["with_dropout"].inputs()
    fix(exported(network("with_dropout", Mode.TRAIN), inputs, tmp_path / "model.onnx"), tmp_path / "fixed.onnx")
    assert "Dropout" not in {node.op_type for node in onnx.load(tmp_path / "fixed.onnx").graph.node}
    np.testing.assert_array_equal(answer(tmp_path / "fixed.onnx", inputs), answer(tmp_path / "fixed.onnx", inputs))


def test_dropout_that_is_an_output_passes_its_input_on(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    inputs = (torch.randn(2, 4),)
    fix(exported(model, inputs, tmp_path / "model.onnx"), tmp_path / "fixed.onnx")
    with torch.no_grad():
        np.testing.assert_allclose(answer(tmp_path / "fixed.onnx", inputs), model[0](inputs[0]).numpy(), rtol=1e-5)


def norm_graph(path: Path, mean: float, variance: float, *, further: bool = False) -> Path:
    values = {"scale": 1.5, "shift": 0.5, "mean": mean, "variance": variance}
    stored = [numpy_helper.from_array(np.full(3, value, np.float32), name) for name, value in values.items()]
    norm = helper.make_node(
        "BatchNormalization", ["x", *values], ["y", "new_mean", "new_variance"], name="norm", training_mode=1
    )
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])]
    outputs += [helper.make_tensor_value_info("new_mean", TensorProto.FLOAT, [3])] * further
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])]
    graph = helper.make_graph([norm], "g", inputs, outputs, stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.mark.parametrize(
    ("mean", "variance", "further", "why"),
    [(0.0, 1.0, False, "initial"), (0.3, -2.0, False, "negative"), (0.3, 2.0, True, "used further")],
)
def test_what_needs_judgement_is_refused(tmp_path: Path, mean: float, variance: float, further: bool, why: str) -> None:
    fixed = fix(norm_graph(tmp_path / "model.onnx", mean, variance, further=further), tmp_path / "fixed.onnx")
    assert fixed.repair is not None
    [refusal] = fixed.repair.refused
    assert why in refusal
    assert not fixed.repair.changes
    assert not (tmp_path / "fixed.onnx").exists()


def test_real_statistics_are_used(tmp_path: Path) -> None:
    fix(norm_graph(tmp_path / "model.onnx", 0.3, 2.0), tmp_path / "fixed.onnx")
    x = torch.randn(4, 3)
    truth = (x.numpy() - 0.3) / np.sqrt(2.0 + 1e-5) * 1.5 + 0.5
    np.testing.assert_allclose(answer(tmp_path / "fixed.onnx", (x,)), truth, rtol=1e-5, atol=1e-6)


class Standardised(nn.Module):
    """Weights normalised as by a batch norm in training form: no mistake, and not to be touched."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.nn.functional.batch_norm(self.conv.weight.reshape(1, 8, -1), None, None, training=True)
        return nn.functional.conv2d(x, weight.reshape_as(self.conv.weight)).mean((2, 3))


def test_standardised_weights_are_left_alone(tmp_path: Path) -> None:
    inputs = (torch.randn(2, 3, 6, 6),)
    fixed = fix(exported(Standardised().eval(), inputs, tmp_path / "model.onnx"), tmp_path / "fixed.onnx")
    assert fixed.repair is not None
    assert not fixed.repair.changes


@pytest.mark.parametrize("name", ["plain_cnn", "mlp_bn1d", "densenet"])
def test_a_declared_batch_is_freed_on_request(tmp_path: Path, name: str) -> None:
    inputs, model = ZOO[name].inputs(2), network(name, Mode.EVAL)
    path = exported(model, inputs, tmp_path / "model.onnx", free=False)
    untouched = fix(path, tmp_path / "none.onnx")
    assert untouched.repair is not None
    assert not untouched.repair.changes
    fixed = fix(path, tmp_path / "fixed.onnx", free_batch=True)
    assert fixed.repair is not None
    assert len(fixed.repair.changes) == 1
    for count in (1, 2, 5):
        batch = ZOO[name].inputs(count)
        np.testing.assert_allclose(answer(tmp_path / "fixed.onnx", batch), expected(model, batch), rtol=1e-4, atol=1e-5)


def test_weights_beside_the_file_stay_beside_it(tmp_path: Path) -> None:
    inputs, model = ZOO["resnet"].inputs(), network("resnet", Mode.TRAIN)
    path = exported(model, inputs, tmp_path / "one.onnx")
    (tmp_path / "out").mkdir()
    onnx.save_model(
        onnx.load(path), tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    fix(tmp_path / "model.onnx", tmp_path / "out" / "fixed.onnx")
    np.testing.assert_allclose(
        answer(tmp_path / "out" / "fixed.onnx", inputs), expected(model, inputs), rtol=1e-4, atol=1e-5
    )


def measured(fixed: Fixed) -> str:
    assert fixed.after is not None
    observation = fixed.after.reports[0].observation
    assert observation is not None
    return observation.verdict


def test_the_copy_is_measured_on_request(tmp_path: Path) -> None:
    path = exported(network("plain_cnn", Mode.TRAIN), ZOO["plain_cnn"].inputs(), tmp_path / "model.onnx")
    run = SweepOptions(batch_sizes=(1, 2, 3), tier="quick", inputs=("x0=float32:3x6x6",))
    assert measured(fix(path, tmp_path / "fixed.onnx", options=Options(sweep=run))) == "independent"
