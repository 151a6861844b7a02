"""Layers of a graph whose equal tensors were stored once by the exporter."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.parser

from bn_audit.alignment.model_side import model_side
from bn_audit.containers.target import FileTarget
from bn_audit.formats.onnx import FORMAT
from bn_audit.opening import opened_target

GEMM = "Gemm <transB = 1>"


def paths(tmp_path: Path, constants: str, nodes: str) -> list[str]:
    """Return the module path of each layer."""
    head = '<ir_version: 8, opset_import: ["" : 17]> agraph (float[n, 2] x) => (float[n, 2] y)'
    proto = onnx.parser.parse_model(f"{head} <{constants}> {{{nodes}}}")
    for tensor in proto.graph.initializer:
        tensor.name = tensor.name.replace("_", ".")  # the text form knows no names with dots
    for node in proto.graph.node:
        node.input[:] = [name.replace("_", ".") for name in node.input]
        node.output[:] = [name.replace("_", ".") for name in node.output]
    onnx.save(proto, tmp_path / "model.onnx")
    with opened_target(str(tmp_path / "model.onnx"), None) as target:
        assert isinstance(target, FileTarget)
        subject = FORMAT.read(target)
        return [layer.path for layer in model_side(subject, subject.models[0]).weighted]


def constants(*weights: str, biases: tuple[str, ...]) -> str:
    return ", ".join(
        [f"float[2,2] {name} = {{1, 2, 3, 4}}" for name in weights] + [f"float[2] {name} = {{0, 0}}" for name in biases]
    )


def test_a_copy_under_the_layers_own_name(tmp_path: Path) -> None:
    nodes = f"b_weight = Identity(a_weight) h = {GEMM}(x, a_weight) y = {GEMM}(h, b_weight)"
    assert paths(tmp_path, constants("a_weight", biases=()), nodes) == ["a", "b"]


def test_one_weight_beside_biases_of_their_own(tmp_path: Path) -> None:
    nodes = f"h = {GEMM}(x, b_weight, a_bias) y = {GEMM}(h, b_weight, b_bias)"
    assert paths(tmp_path, constants("b_weight", biases=("a_bias", "b_bias")), nodes) == ["a", "b"]


def test_one_bias_beside_weights_of_their_own(tmp_path: Path) -> None:
    nodes = f"h = {GEMM}(x, a_weight, b_bias) y = {GEMM}(h, b_weight, b_bias)"
    assert paths(tmp_path, constants("a_weight", "b_weight", biases=("b_bias",)), nodes) == ["a", "b"]


def test_a_layer_that_is_called_twice(tmp_path: Path) -> None:
    nodes = f"h = {GEMM}(x, a_weight, a_bias) y = {GEMM}(h, a_weight, a_bias)"
    assert paths(tmp_path, constants("a_weight", biases=("a_bias",)), nodes) == ["a", "a"]
