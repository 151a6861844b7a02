"""Small ONNX files that ask for much: one error of the project's own, soon."""

from __future__ import annotations

import time
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from onnx_bytes import length_delimited, model
from onnx_texts import VECTORS, head

from bn_audit.audit import read_subject
from bn_audit.containers.source import Source
from bn_audit.containers.target import FileTarget
from bn_audit.errors import ArtifactError, LimitExceededError, MalformedFileError, NoModelError
from bn_audit.formats.onnx import read

SECONDS = 20
"""Some times what the limits allow on a machine of today, for a test machine may be busy."""


def timed_error(data: bytes, directory: Path) -> ArtifactError:
    """Return the error that a file gives, which has to come soon."""
    path = directory / "model.onnx"
    path.write_bytes(data)
    started = time.monotonic()
    with pytest.raises(ArtifactError) as caught:
        read(FileTarget(Source(path)))
    assert time.monotonic() - started < SECONDS
    return caught.value


def test_graphs_nested_without_end(tmp_path: Path) -> None:
    graph = b""
    for _ in range(5000):
        graph = length_delimited(1, length_delimited(5, length_delimited(6, graph)))
    assert isinstance(timed_error(model(graph), tmp_path), LimitExceededError)


def test_functions_that_grow_by_calling_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bn_audit.formats._onnx.assembly.MAX_PARTS", 100_000)
    functions = "\n".join(
        f'<domain: "local", opset_import: ["" : 18, "local" : 1]> f{depth} (x) => (y) '
        f"{{ a = local.f{depth + 1} (x) y = local.f{depth + 1} (a) }}"
        for depth in range(40)
    )
    last = '<domain: "local", opset_import: ["" : 18]> f40 (x) => (y) { y = Relu (x) }'
    text = f"{head()} g (float[N] x) => (float[N] z) {{ z = local.f0 (x) }} {functions} {last}"
    data = onnx.parser.parse_model(text).SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(LimitExceededError, match="parts of nodes"):
        read(FileTarget(Source(path)))


def test_arithmetic_that_doubles_at_each_step_costs_its_length(tmp_path: Path) -> None:
    steps = " ".join(f"t{index + 1} = Add (t{index}, t{index})" for index in range(40))
    text = f"""{head()} g (float[N,3] x) => (float[N,3] z) {VECTORS} {{
        t0 = Identity (m) {steps} z = BatchNormalization (x, s, b, t40, v)
    }}"""
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    started = time.monotonic()
    with read_subject(path) as subject:
        mean = subject.norms[0].running_mean
        assert mean is not None
        assert list(mean.values()) == [value * 2.0**40 for value in (7, 8, 9)]
    assert time.monotonic() - started < SECONDS


def test_long_chain_of_copies_is_followed_without_recursion(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", [f"t{index}"], [f"t{index + 1}"]) for index in range(5000)]
    nodes.append(helper.make_node("BatchNormalization", ["x", "t5000", "t5000", "t5000", "t5000"], ["z"]))
    nodes.append(helper.make_node("Relu", ["z"], ["r0"]))
    nodes.extend(helper.make_node("Relu", [f"r{index}"], [f"r{index + 1}"]) for index in range(5000))
    nodes.append(
        helper.make_node("BatchNormalization", ["r5000", "t0", "t0", "t0", "t0"], ["out", "o1", "o2"], training_mode=1)
    )
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [helper.make_tensor("t0", TensorProto.FLOAT, [1], [3.0])],
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    with read_subject(path) as subject:
        assert [norm.uses_batch_statistics for norm in subject.norms] == [False, True]


def calling(levels: int) -> bytes:
    """Return a model whose functions call each other from within the branches of an If."""
    functions = "\n".join(
        f"""<domain: "local", opset_import: ["" : 18, "local" : 1]> f{depth} (x, c) => (y) {{
            y = If (c) <then_branch = a () => (p) {{ p = local.f{depth + 1} (x, c) }},
                        else_branch = b () => (q) {{ q = Relu (x) }}>
        }}"""
        for depth in range(levels)
    )
    last = f'<domain: "local", opset_import: ["" : 18]> f{levels} (x, c) => (y) {{ y = Relu (x) }}'
    text = f"{head()} g (float[N] x, bool c) => (float[N] z) {{ z = local.f0 (x, c) }} {functions} {last}"
    data: bytes = onnx.parser.parse_model(text).SerializeToString()
    return data


def test_functions_and_bodies_within_each_other(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(calling(25))
    with read_subject(path) as subject:
        assert [node.op for node in subject.graphs[""].nodes] == ["If"]
    error = timed_error(calling(400), tmp_path)
    assert isinstance(error, MalformedFileError)
    assert "nested deeper" in str(error)


@pytest.mark.parametrize(
    ("limit", "graph"),
    [
        ("MAX_MESSAGES", b"\x0a\x00" * 2000),
        ("MAX_FIELDS", b"\xf8\x07\x00" * 2000),
        ("MAX_KEPT", length_delimited(1, length_delimited(1, b"x") * 2000)),
    ],
)
def test_number_of_fields_is_limited(limit: str, graph: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"bn_audit.containers.protobuf.{limit}", 1000)
    assert isinstance(timed_error(model(graph), tmp_path), LimitExceededError)


def test_elements_that_are_made_out_of_nothing_are_limited(tmp_path: Path) -> None:
    count = 200
    nodes = "".join(
        f"""n{index} = Constant <value_ints: ints = [200000]> () c{index} = ConstantOfShape (n{index})
        x{index + 1} = BatchNormalization (x{index}, c{index}, c{index}, c{index}, c{index})"""
        for index in range(count)
    )
    path = tmp_path / "model.onnx"
    text = f"{head()} g (float[N,200000] x0) => (float[N] x{count}) {{ {nodes} }}"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    with read_subject(path) as subject:
        assert len(subject.norms) == count
        assert sum(tensor.numel for norm in subject.norms for tensor in norm.tensors.values()) < 1 << 25
        assert all(norm.uses_batch_statistics is False for norm in subject.norms)
        assert len(subject.unread) == 1


def test_one_large_tensor_in_many_layers_is_limited(tmp_path: Path) -> None:
    nodes = "".join(f"x{index + 1} = BatchNormalization (x{index}, t, t, t, t)" for index in range(200))
    text = f"{head()} g (float[N,100000] x0) => (float[N] x200) <float[100000] t = {{{'0,' * 99999}0}}> {{ {nodes} }}"
    data = onnx.parser.parse_model(text).SerializeToString()
    assert isinstance(timed_error(data, tmp_path), LimitExceededError)


def test_shape_of_too_many_dimensions(tmp_path: Path) -> None:
    tensor = length_delimited(1, b"\x01" * 100_000) + b"\x10\x01" + length_delimited(8, b"t")
    error = timed_error(model(length_delimited(5, tensor)), tmp_path)
    assert isinstance(error, MalformedFileError)
    assert "impossible shape" in str(error)


def test_model_without_graph(tmp_path: Path) -> None:
    assert isinstance(timed_error(b"\x08\x0a\x42\x02\x10\x14", tmp_path), NoModelError)


def test_model_without_operator_sets(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    error = timed_error(b"\x08\x0a" + length_delimited(7, graph.SerializeToString()), tmp_path)
    assert "states no version" in str(error)


@pytest.mark.parametrize("version", [0, -1])
def test_impossible_operator_set(version: int, tmp_path: Path) -> None:
    data = onnx.parser.parse_model(f"{head()} g (float[1] x) => (float[1] y) {{ y = Relu (x) }}")
    data.opset_import[0].version = version
    assert isinstance(timed_error(data.SerializeToString(), tmp_path), MalformedFileError)
