"""Every model that ships with the onnx library, read as the library reads it, and its own tests of batch norm."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy
import onnx
import pytest
from onnx import AttributeProto, numpy_helper
from onnx.backend.test import loader

from bn_audit import plugins
from bn_audit.audit import read_subject
from bn_audit.containers.source import Source
from bn_audit.containers.target import FileTarget
from bn_audit.formats import onnx as onnx_format
from bn_audit.subject.graph import AttributeValue, Graph
from bn_audit.subject.norm import Mode, ModeOrigin
from bn_audit.subject.subject import Subject
from bn_audit.subject.tensor import TensorRef

DATA = Path(loader.DATA_DIR)
MODELS = sorted(str(path.relative_to(DATA)) for path in DATA.rglob("*.onnx"))
LIGHT = [name for name in MODELS if name.startswith("light")]


def subject_of(path: Path) -> Subject:
    with read_subject(path) as subject:
        return subject


def plain(value: AttributeValue) -> object:
    """Return an attribute of the audit in a shape that compares with the library's."""
    if isinstance(value, TensorRef):
        return (value.shape, value.load()) if value.dtype != "string" else value.shape
    if isinstance(value, Graph):
        return graph_of_audit(value)
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def plain_of_library(attribute: AttributeProto) -> object:
    value = onnx.helper.get_attribute_value(attribute)
    values = value if attribute.type >= AttributeProto.FLOATS else [value]
    found: list[object] = []
    for item in values:
        if isinstance(item, onnx.TensorProto):
            shape = tuple(item.dims)
            found.append(shape if item.data_type == 8 else (shape, numpy_helper.to_array(item).tobytes()))
        elif isinstance(item, onnx.GraphProto):
            found.append(graph_of_library(item))
        else:
            found.append(item.decode() if isinstance(item, bytes) else item)
    return found if attribute.type >= AttributeProto.FLOATS else found[0]


def graph_of_audit(graph: Graph) -> dict[str, object]:
    return {
        "name": graph.name,
        "inputs": [value.name for value in graph.inputs],
        "outputs": [value.name for value in graph.outputs],
        "constants": {name: (ref.shape, ref.load()) for name, ref in graph.constants.items()},
        "nodes": [
            (
                node.op,
                node.domain,
                node.inputs,
                node.outputs,
                {key: plain(node.attributes[key]) for key in node.attributes},
            )
            for node in graph.nodes
        ],
    }


def graph_of_library(graph: onnx.GraphProto) -> dict[str, object]:
    constants = {item.name: (tuple(item.dims), numpy_helper.to_array(item).tobytes()) for item in graph.initializer}
    return {
        "name": graph.name,
        "inputs": [value.name for value in graph.input if value.name not in constants],
        "outputs": [value.name for value in graph.output],
        "constants": constants,
        "nodes": [
            (
                node.op_type,
                node.domain,
                tuple(node.input),
                tuple(node.output),
                {attribute.name: plain_of_library(attribute) for attribute in node.attribute},
            )
            for node in graph.node
        ],
    }


@pytest.mark.parametrize("name", MODELS)
def test_graph_is_the_librarys(name: str) -> None:
    subject = subject_of(DATA / name)
    model = onnx.load(DATA / name)
    assert graph_of_audit(subject.graphs[""]) == graph_of_library(model.graph)
    assert subject.graphs[""].versions == {item.domain: item.version for item in model.opset_import}


@pytest.mark.parametrize("name", LIGHT)
def test_light_models_are_in_inference_form_without_findings(name: str) -> None:
    subject = subject_of(DATA / name)
    nodes = onnx.load(DATA / name).graph.node
    assert [norm.node for norm in subject.norms] == [
        node.name or f"BatchNormalization#{index}"
        for index, node in enumerate(nodes)
        if node.op_type == "BatchNormalization"
    ]
    assert all((norm.mode, norm.uses_batch_statistics) == (Mode.EVAL, False) for norm in subject.norms)
    assert all(len(norm.tensors) == 4 for norm in subject.norms)
    assert all(call.live is False for call in subject.random_calls)
    assert subject.unread == ()
    rules = [rule for rule in plugins.rules() if rule.concerns(subject) and not rule.needs & ~subject.facts]
    assert len(rules) > 3 or not subject.norms
    assert [finding for rule in rules for finding in rule.check(subject)] == []


@pytest.mark.parametrize("name", LIGHT)
def test_weights_that_light_models_make_by_operators_are_exact(name: str) -> None:
    graph = onnx.load(DATA / name).graph
    stored = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            (fill,) = numpy_helper.to_array(node.attribute[0].t)
            stored[node.output[0]] = numpy.full(stored[node.input[0]], fill)
    made = [node for node in graph.node if node.op_type == "BatchNormalization"]
    for norm, node in zip(subject_of(DATA / name).norms, made, strict=True):
        assert [tensor.load() for tensor in norm.tensors.values()] == [
            stored[value].tobytes() for value in node.input[1:]
        ]


def node_tests(prefix: str) -> Iterable[tuple[str, onnx.ModelProto]]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases("BatchNormalization")
    return [(case.name, case.model) for case in cases if case.model is not None and case.name.startswith(prefix)]


def test_the_librarys_own_cases_of_batch_norm(tmp_path: Path) -> None:
    found = {}
    for name, model in node_tests("test_batchnorm"):
        (tmp_path / name).write_bytes(model.SerializeToString())
        (norm,) = subject_of(tmp_path / name).norms
        assert norm.mode_origin is ModeOrigin.ONNX_ATTRIBUTE
        assert norm.contradiction is None
        found[name] = (norm.mode, norm.uses_batch_statistics, norm.eps)
    assert found == {
        "test_batchnorm_example": (Mode.CALLER, None, 1e-5),
        "test_batchnorm_epsilon": (Mode.CALLER, None, 1e-2),
        "test_batchnorm_example_training_mode": (Mode.TRAIN, True, 1e-5),
        "test_batchnorm_epsilon_training_mode": (Mode.TRAIN, True, 1e-2),
    }


def test_no_other_file_of_the_library_is_taken_for_a_model() -> None:
    """Tensors, sequences and Python modules lie beside the models; their messages differ from that of a model."""
    others = [*DATA.rglob("*.pb"), *Path(onnx.__path__[0]).glob("*.p*")]
    assert len(others) > 100
    assert [path for path in others if onnx_format.FORMAT.sniff(FileTarget(Source(path)))] == []
