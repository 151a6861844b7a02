"""What ONNX graphs say about their inputs, and graphs of one batch size that are freed from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx_runs import RUNTIME, bare, batch_norm, exported, model, session, statistics, values, written
from torch import Tensor, nn

from bn_audit.errors import UnsupportedRunError
from bn_audit.runners._onnx.shapes import batch_place
from bn_audit.subject.run import InputSpec

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


def specs_of(path: Path, **settings: object) -> dict[str, InputSpec]:
    with session(path, **settings) as opened:
        (specs,) = opened.input_candidates()
    return {spec.name: spec for spec in specs}


def adding(shapes: Mapping[str, tuple]) -> onnx.ModelProto:
    """Return a model that adds the sums of its inputs."""
    nodes = [helper.make_node("ReduceSum", [name], [f"{name}.s"], keepdims=0) for name in shapes]
    nodes.append(helper.make_node("Sum", [f"{name}.s" for name in shapes], ["y"]))
    return model(nodes, shapes)


@pytest.mark.parametrize(
    ("shapes", "axes"),
    [
        ({"x": ("N", 3, 8, 8)}, [0]),
        ({"x": ("batch", "seq", 4)}, [0]),
        ({"x": ("seq", "batch_size", 4)}, [1]),
        ({"x": ("s0", 4)}, [0]),
        ({"x": (None, 4)}, [0]),
        ({"x": ("N", 4), "table": (7, 4)}, [0, None]),
        ({"x": ("N", 4), "state": (1, "N", 4)}, [0, 1]),
        ({"x": (16, "dyn", 4)}, [1]),
        ({"x": ("N", 4), "scale": ()}, [0, None]),
    ],
)
def test_the_axis_of_the_samples(tmp_path: Path, shapes: dict[str, tuple], axes: list[int | None]) -> None:
    found = specs_of(written(tmp_path, adding(shapes)))
    assert [spec.batch_axis for spec in found.values()] == axes
    assert [spec.shape for spec in found.values()] == list(shapes.values())


def test_the_axis_that_the_user_states(tmp_path: Path) -> None:
    found = specs_of(written(tmp_path, adding({"x": ("a", "b", 4), "n": ()})), batch_axis=1)
    assert [spec.batch_axis for spec in found.values()] == [1, None]


def test_weights_among_the_inputs_are_none(tmp_path: Path) -> None:
    proto = model(
        [helper.make_node("Mul", ["x", "w"], ["y"])], {"x": ["N", 2], "w": [2]}, weights={"w": np.ones(2, np.float32)}
    )
    assert list(specs_of(written(tmp_path, proto))) == ["x"]


@pytest.mark.parametrize(
    ("op", "weight", "declared", "expected"),
    [
        ("Conv", (8, 3, 3, 3), None, (None, 3, None, None)),
        ("Conv", (8, 3, 3, 3), ("n", "c", "h", "w"), ("n", 3, "h", "w")),
        ("Conv", (8, 3, 3), ("n", "c", "t"), ("n", 3, "t")),
        ("MatMul", (7, 4), ("n", "t", "f"), ("n", "t", 7)),
        ("MatMul", (7, 4), None, (None, 7)),
        ("Gemm", (7, 4), (None, None), (None, 7)),
        ("Mul", (1,), None, (None,)),
    ],
)
def test_the_first_layer_tells_what_is_not_declared(
    tmp_path: Path, op: str, weight: tuple[int, ...], declared: tuple | None, expected: tuple
) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node(op, ["a", "w"], ["y"])]
    proto = model(nodes, {"x": declared}, weights={"w": values(1, *weight)})
    (spec,) = specs_of(written(tmp_path, proto)).values()
    assert (spec.shape, spec.batch_axis) == (expected, 0)


def test_tokens_have_the_range_of_their_table(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["ids", "axes"], ["u"]),
        helper.make_node("Gather", ["table", "u"], ["e"], axis=0),
        helper.make_node("Cast", ["mask"], ["m"], to=1),
        helper.make_node("Mul", ["e", "m"], ["y"]),
    ]
    weights = {"table": values(1, 11, 1), "axes": np.array([-1], np.int64)}
    proto = model(nodes, {"ids": ["N", 5], "mask": ["N", 5, 1]}, weights=weights, kinds={"ids": 7, "mask": 7})
    found = specs_of(written(tmp_path, proto))
    assert (found["ids"].highest, found["ids"].dtype) == (11, "int64")
    assert found["mask"].highest is None


@pytest.mark.parametrize(("kind", "name"), [(TensorProto.STRING, "string"), (TensorProto.INT4, "int4")])
def test_elements_that_cannot_be_drawn_are_named(tmp_path: Path, kind: int, name: str) -> None:
    proto = model([helper.make_node("Identity", ["x"], ["y"])], {"x": ["N", 2]}, kinds={"x": kind, "y": kind}, opset=21)
    with pytest.raises(UnsupportedRunError, match=f"input 'x' takes elements of type {name}"):
        specs_of(written(tmp_path, proto))


def test_sequences_are_no_inputs_here(tmp_path: Path) -> None:
    proto = model([helper.make_node("ConcatFromSequence", ["x"], ["y"], axis=0)], {"x": ["N"]})
    proto.graph.input[0].CopyFrom(
        helper.make_value_info("x", helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, None)))
    )
    with pytest.raises(UnsupportedRunError, match="input 'x' is no tensor but of kind sequence"):
        specs_of(written(tmp_path, proto))


@pytest.mark.parametrize(
    ("shape", "stride", "size", "axis"),
    [
        ((1, 49, 12, 64), 49 * 12 * 64, 1, 0),
        ((12, 49, 64), 12 * 49 * 64, 1, 0),
        ((49, 1, 8), 8, 1, 1),
        ((49 * 4, 2), 8, 1, 0),
        ((2, 6), 6, 2, 0),
        ((3, 4), 6, 2, None),
        ((10, 3), 15, 2, 0),
    ],
)
def test_the_place_of_the_batch_in_a_shape(shape: tuple[int, ...], stride: int, size: int, axis: int | None) -> None:
    assert batch_place(shape, stride, size) == axis


class Flat(nn.Module):
    """Reshapes that the exporter writes as numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).view(x.shape[0], -1))


class Attention(nn.Module):
    """A class token, heads and windows: the batch is merged and split again."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.qkv, self.out = nn.Parameter(torch.randn(1, 1, 8)), nn.Linear(8, 24), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        size, count, _ = x.shape
        x = torch.cat([self.token.expand(size, -1, -1), x], 1)
        query, key, value = self.qkv(x).view(size, count + 1, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        query, key, value = (part.reshape(size * 2, count + 1, 4) for part in (query, key, value))
        mixed = ((query @ key.transpose(1, 2)).softmax(-1) @ value).view(size, 2, count + 1, 4)
        return self.out(mixed.transpose(1, 2).reshape(size, count + 1, 8)[:, 0])


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x)[0][:, -1])


class Hidden(nn.Module):
    """Batch statistics behind a fixed batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.bn(self.conv(x)).view(x.shape[0], 64))


NETWORKS = {"flat": (Flat, (3, 4, 4)), "attention": (Attention, (5, 8)), "recurrent": (Recurrent, (7, 4))}


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_fixed_batch_is_freed(tmp_path: Path, network: str, size: int) -> None:
    torch.manual_seed(0)
    build, shape = NETWORKS[network]
    module = build().eval()
    path = exported(tmp_path, module, torch.randn(size, *shape), dynamic=False)
    batch = values(1, 6, *shape)
    with session(path) as opened:
        if network == "recurrent" and size > 1:
            # Its initial state has a row for each sample.
            assert opened.fixed_batch == size
            return
        assert opened.fixed_batch is None
        assert any(f"fixes the batch at {size}" in remark for remark in opened.remarks)
        (specs,) = opened.input_candidates()
        assert not isinstance(specs[0].shape[0], int)
        output = opened.run({"x0": batch}).outputs[0]["y"]
    expected = np.concatenate([bare(path, {"x0": batch[at : at + size]})[0][0] for at in range(0, 6, size)])
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


def test_batch_statistics_behind_a_fixed_batch_are_freed_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Hidden().train()
    path = exported(tmp_path, module, torch.randn(1, 3, 4, 4), dynamic=False)
    batch = values(1, 4, 3, 4, 4)
    with session(path) as opened:
        assert opened.fixed_batch is None
        output = opened.run({"x0": batch}).outputs[0]["y"]
    np.testing.assert_allclose(output, module(torch.from_numpy(batch)).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_a_batch_that_cannot_be_freed_is_stated(tmp_path: Path) -> None:
    weights = {"position": values(1, 4, 3)}
    proto = model([helper.make_node("Add", ["x", "position"], ["y"])], {"x": [4, 3]}, weights=weights)
    with session(written(tmp_path, proto)) as opened:
        assert opened.fixed_batch == 4
        assert opened.remarks == ("the file fixes the batch at 4, and it could not be run with another size",)
        assert opened.run({"x": values(2, 4, 3)}).outputs[0]["y"].shape == (4, 3)


def test_an_open_batch_is_left_as_it_is(tmp_path: Path) -> None:
    """A number in a reshape of a graph whose batch is open is a mistake of the model, and stays."""
    constants = {"shape": np.array([2, -1], np.int64)}
    proto = model([helper.make_node("Reshape", ["x", "shape"], ["y"])], {"x": ["N", 3]}, weights=constants)
    with session(written(tmp_path, proto)) as opened:
        assert (opened.fixed_batch, opened.remarks) == (None, ())
        assert opened.run({"x": values(2, 4, 3)}).outputs[0]["y"].shape == (2, 6)


@pytest.mark.parametrize("shape", [[5, 3], [15], [3, 5], [1, 15]])
def test_a_batch_size_in_an_operator_is_found(tmp_path: Path, shape: list[int]) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Reshape", ["a", "shape"], ["y"], name="culprit"),
    ]
    proto = model(nodes, {"x": ["N", 3]}, weights={"shape": np.array(shape, np.int64)})
    with session(written(tmp_path, proto)) as opened:
        assert opened.fixed_batch == 5
        assert opened.remarks == ("the graph has the batch size 5 written into node 'culprit'",)


def test_a_reshape_of_what_has_no_batch_is_none(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceSum", ["x", "first"], ["a"], keepdims=0),
        helper.make_node("Reshape", ["a", "shape"], ["b"]),
        helper.make_node("Add", ["x", "b"], ["y"]),
    ]
    constants = {"shape": np.array([1, 3], np.int64), "first": np.array([0], np.int64)}
    with session(written(tmp_path, model(nodes, {"x": ["N", 3]}, weights=constants))) as opened:
        assert (opened.fixed_batch, opened.remarks) == (None, ())


def test_a_batch_norm_with_a_fixed_batch_can_be_set_and_freed(tmp_path: Path) -> None:
    proto = model([batch_norm(15, "x", "y", training=True)], {"x": [2, 3]}, weights=statistics(), opset=15)
    with session(written(tmp_path, proto)) as opened:
        assert opened.fixed_batch is None
        evaluated = opened.in_mode(training=False)
        assert evaluated is not None
        assert evaluated.run({"x": values(1, 7, 3)}).outputs[0]["y"].shape == (7, 3)
        assert evaluated.remarks == opened.remarks


@pytest.mark.parametrize("name", ["light_shufflenet", "light_squeezenet"])
def test_known_networks_of_one_sample_are_freed(name: str) -> None:
    """The networks of the onnx package have constant weights, so only their shapes are compared."""
    with session(LIGHT / f"{name}.onnx") as opened:
        assert opened.fixed_batch is None
        (specs,) = opened.input_candidates()
        batch = {specs[0].name: values(1, 2, 3, 224, 224)}
        (output,) = opened.run(batch).outputs[0].values()
    assert output.shape[0] == 2


def test_the_runner_reads_no_code() -> None:
    assert not RUNTIME.runs_code
