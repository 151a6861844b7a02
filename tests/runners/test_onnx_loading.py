"""ONNX files as backends load them: weights in other files, files that lead elsewhere, nothing written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_runs import bare, batch_norm, model, norm_model, session, statistics, values, with_row, written

from bn_audit.errors import ArtifactError, MalformedFileError, NoModelError

WEIGHT = values(5, 100, 64)


def external(directory: Path, location: str = "weights.bin", offset: int = 0, length: int | None = None) -> Path:
    """Return a product with a matrix that lies in another file, and a batch norm whose tensors do."""
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["N", 100]}, weights={"w": WEIGHT})
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    stated = {"location": location, "offset": str(offset), "length": str(WEIGHT.nbytes if length is None else length)}
    for key, value in stated.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return written(directory, proto)


@pytest.mark.parametrize("offset", [0, 4096])
def test_weights_in_another_file(tmp_path: Path, offset: int) -> None:
    (tmp_path / "weights.bin").write_bytes(b"\0" * offset + WEIGHT.tobytes())
    path = external(tmp_path, offset=offset)
    before = {item: item.read_bytes() for item in tmp_path.iterdir()}
    batch = {"x": values(1, 3, 100)}
    with session(path) as opened:
        output = opened.run(batch).outputs[0]["y"]
        np.testing.assert_array_equal(output, bare(path, batch)[0][0])
        assert not np.array_equal(opened.run(batch, weight_jitter=1).outputs[0]["y"], output)
        sibling = opened.sibling()
        assert sibling is not None
        np.testing.assert_allclose(sibling.run(batch).outputs[0]["y"], output, rtol=1e-5)
    assert {item: item.read_bytes() for item in tmp_path.iterdir()} == before


def test_small_tensors_in_another_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    proto = norm_model(15, training=True)
    onnx.save_model(proto, path, save_as_external_data=True, location="all.bin", size_threshold=0)
    assert any(tensor.data_location for tensor in onnx.load(path, load_external_data=False).graph.initializer)
    batch = {"x": values(1, 5, 3, 4, 4)}
    with session(path) as opened:
        run = opened.run(batch, batch)
        assert run.changed == ("bn.running_mean", "bn.running_var")
    np.testing.assert_array_equal(run.outputs[1]["y"], bare(path, batch, batch)[1][0])


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "", "a/../../weights.bin", "C:\\weights.bin"])
def test_files_outside_the_folder_are_not_read(tmp_path: Path, location: str) -> None:
    (tmp_path / "weights.bin").write_bytes(WEIGHT.tobytes())
    folder = tmp_path / "inner"
    folder.mkdir()
    with pytest.raises(ArtifactError, match=r"not read|names no file"), session(external(folder, location)):
        pass


@pytest.mark.parametrize(("offset", "length"), [(4, None), (0, 10**9), (10**18, 4)])
def test_data_behind_the_end_of_the_file(tmp_path: Path, offset: int, length: int | None) -> None:
    (tmp_path / "weights.bin").write_bytes(WEIGHT.tobytes())
    with (
        pytest.raises(MalformedFileError, match="lie outside"),
        session(external(tmp_path, "weights.bin", offset, length)),
    ):
        pass


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"weights\.bin"), session(external(tmp_path)):
        pass


def test_hostile_tensors_in_bodies_are_looked_at_too(tmp_path: Path) -> None:
    inner = helper.make_tensor("c", TensorProto.FLOAT, [1], [1.0])
    inner.ClearField("float_data")
    inner.data_location = TensorProto.EXTERNAL
    entry = inner.external_data.add()
    entry.key, entry.value = "location", "../secret"
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["r"])], "body", [], [helper.make_tensor_value_info("r", 1, [1])]
    )
    body.initializer.append(inner)
    nodes = [helper.make_node("If", ["flag"], ["y"], then_branch=body, else_branch=body)]
    proto = model(nodes, {"x": ["N", 1]}, weights={"flag": np.array(True)})
    with pytest.raises(MalformedFileError, match="outside its own directory"), session(written(tmp_path, proto)):
        pass


@pytest.mark.parametrize("data", [b"\x08\x08\x3a\xff\xff\xff\xff", b"\xff" * 64])
def test_damaged_messages_are_malformed(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(MalformedFileError, match="is no ONNX message"), session(path):
        pass


def test_a_message_without_a_graph_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx.ModelProto(ir_version=8).SerializeToString())
    with pytest.raises(NoModelError), session(path):
        pass


def test_large_weights_are_shared_and_right(tmp_path: Path) -> None:
    """A matrix above the limit below which tensors stay in the message, and one of each smaller type."""
    weights = {"w": WEIGHT, "h": WEIGHT.astype(np.float16), "i": np.arange(6400, dtype=np.int32).reshape(100, 64)}
    nodes = [
        helper.make_node("Cast", ["h"], ["h32"], to=1),
        helper.make_node("Cast", ["i"], ["i32"], to=1),
        helper.make_node("Sum", ["w", "h32", "i32"], ["s"]),
        helper.make_node("MatMul", ["x", "s"], ["y"]),
    ]
    path = written(tmp_path, model(nodes, {"x": ["N", 100]}, weights=weights))
    batch = {"x": values(1, 3, 100)}
    with session(path) as opened:
        np.testing.assert_array_equal(opened.run(batch).outputs[0]["y"], bare(path, batch)[0][0])


def test_functions_of_the_model_are_written_out(tmp_path: Path) -> None:
    function = helper.make_function(
        "own", "Normed", ["a", "s", "b", "m", "v"], ["r"],
        [helper.make_node("BatchNormalization", ["a", "s", "b", "m", "v"], ["r", "p", "q"], training_mode=1)],
        [helper.make_opsetid("", 15)],
    )  # fmt: skip
    names = [f"bn.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
    nodes = [helper.make_node("Normed", ["x", *names], ["y"], domain="own")]
    proto = model(nodes, {"x": ["N", 3]}, weights=statistics(), opset=15, domains=("own",))
    proto.functions.append(function)
    plain = model([batch_norm(15, "x", "y", training=True)], {"x": ["N", 3]}, weights=statistics(), opset=15)
    batch = {"x": values(1, 5, 3)}
    expected = bare(written(tmp_path, plain, "plain.onnx"), batch)[0][0]
    with session(written(tmp_path, proto)) as opened:
        assert opened.norm_paths == ("bn",)
        np.testing.assert_array_equal(opened.run(batch).outputs[0]["y"], expected)


def test_nodes_in_any_order(tmp_path: Path) -> None:
    proto = norm_model(15, training=True)
    batch = {"x": values(1, 5, 3, 4, 4)}
    expected = bare(written(tmp_path, proto), batch)[0][0]
    backwards = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(backwards)
    other = values(2, 5, 3, 4, 4)
    companions, probe = with_row(other, 0, batch["x"]), with_row(batch["x"], 0, other)
    with session(written(tmp_path, proto)) as opened:
        np.testing.assert_array_equal(opened.run(batch).outputs[0]["y"], expected)
        where = opened.localise(batch, {"x": companions}, {"x": probe}, 0)
    assert where.first is not None
    assert where.first.path == "bn"
