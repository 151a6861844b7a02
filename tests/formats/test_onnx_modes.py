"""The mode of batch norms by the rules of each operator set, on models that the onnx library writes."""

from __future__ import annotations

from pathlib import Path

import numpy
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bn_audit.audit import read_subject
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin, NormLayer

C = 3
ROLES = ("scale", "B", "mean", "var")


def model_with(
    opset: int, outputs: list[str], *, inputs: tuple[str, ...] = ("x", *ROLES), **attributes: object
) -> onnx.ModelProto:
    """Return a model with one batch norm, whose four tensors are initialisers as far as it reads them."""
    node = helper.make_node("BatchNormalization", list(inputs), outputs, name="bn", **attributes)
    tensors = [numpy_helper.from_array(numpy.arange(1, C + 1, dtype=numpy.float32), role) for role in ROLES]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", C, 4, 4])],
        [helper.make_tensor_value_info(outputs[0], TensorProto.FLOAT, None)],
        [tensor for tensor in tensors if tensor.name in inputs],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def only_norm(model: onnx.ModelProto, directory: Path) -> NormLayer:
    path = directory / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with read_subject(path) as subject:
        (norm,) = subject.norms
        return norm


FIVE = ["y", "m", "v", "sm", "sv"]

CASES = [
    (1, FIVE, {}, Mode.TRAIN, ModeOrigin.ONNX_LEGACY, None),
    (1, ["y"], {"is_test": 1}, Mode.EVAL, ModeOrigin.ONNX_LEGACY, None),
    (6, FIVE, {"is_test": 0}, Mode.TRAIN, ModeOrigin.ONNX_LEGACY, None),
    (6, ["y"], {}, Mode.TRAIN, ModeOrigin.ONNX_LEGACY, "is_test 0"),
    (6, FIVE, {"is_test": 1}, Mode.EVAL, ModeOrigin.ONNX_LEGACY, "is_test 1"),
    (7, ["y"], {}, Mode.EVAL, ModeOrigin.ONNX_LEGACY, None),
    (7, FIVE, {}, Mode.TRAIN, ModeOrigin.ONNX_LEGACY, None),
    (9, FIVE, {}, Mode.TRAIN, ModeOrigin.ONNX_LEGACY, None),
    (13, ["y", "m", "v"], {}, Mode.TRAIN, ModeOrigin.ONNX_LEGACY, "3 outputs"),
    (13, ["y", "", "", "", ""], {}, Mode.EVAL, ModeOrigin.ONNX_LEGACY, "without a name"),
    (13, ["y"], {"training_mode": 1}, Mode.EVAL, ModeOrigin.ONNX_LEGACY, None),
    (14, ["y"], {}, Mode.EVAL, ModeOrigin.ONNX_ATTRIBUTE, None),
    (14, ["y"], {"training_mode": 0}, Mode.EVAL, ModeOrigin.ONNX_ATTRIBUTE, None),
    (14, ["y", "m", "v"], {"training_mode": 1}, Mode.TRAIN, ModeOrigin.ONNX_ATTRIBUTE, None),
    (15, ["y"], {"training_mode": 1}, Mode.TRAIN, ModeOrigin.ONNX_ATTRIBUTE, "training_mode 1"),
    (15, ["y", "m", "v"], {}, Mode.EVAL, ModeOrigin.ONNX_ATTRIBUTE, "training_mode 0"),
    (15, ["y", "", ""], {"training_mode": 1}, Mode.TRAIN, ModeOrigin.ONNX_ATTRIBUTE, "without a name"),
    (21, ["y", "m", "v"], {"training_mode": 1}, Mode.TRAIN, ModeOrigin.ONNX_ATTRIBUTE, None),
]


@pytest.mark.parametrize(("opset", "outputs", "attributes", "mode", "origin", "contradiction"), CASES)
def test_mode_of_every_operator_set(
    opset: int,
    outputs: list[str],
    attributes: dict[str, int],
    mode: Mode,
    origin: ModeOrigin,
    contradiction: str | None,
    tmp_path: Path,
) -> None:
    norm = only_norm(model_with(opset, outputs, **attributes), tmp_path)
    assert (norm.mode, norm.mode_origin) == (mode, origin)
    assert norm.uses_batch_statistics is (mode is Mode.TRAIN)
    assert norm.input_origin is (InputOrigin.ACTIVATIONS if mode is Mode.TRAIN else None)
    assert (norm.contradiction is None) if contradiction is None else (contradiction in str(norm.contradiction))


def test_settings_are_the_schema_defaults_in_pytorchs_convention(tmp_path: Path) -> None:
    norm = only_norm(model_with(15, ["y"]), tmp_path)
    assert (norm.eps, norm.momentum, norm.num_features, norm.affine) == (1e-5, 0.1, C, True)
    norm = only_norm(model_with(15, ["y"], epsilon=1e-3, momentum=0.99), tmp_path)
    assert (norm.eps, norm.momentum) == (1e-3, 0.01)


def test_tensors_hold_the_stored_values(tmp_path: Path) -> None:
    norm = only_norm(model_with(15, ["y"]), tmp_path)
    values = {role: list(tensor.values()) for role, tensor in norm.tensors.items()}
    assert values == {role: [1.0, 2.0, 3.0] for role in ("weight", "bias", "running_mean", "running_var")}
