"""Where samples meet in ONNX graphs, by two-colour runs; what the batch norms of a graph normalise with."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from onnx import helper
from onnx_runs import CHANNELS, RUNTIME, batch_norm, exported, model, session, statistics, values, with_row, written
from torch import Tensor, nn

from bn_audit.runners._onnx import segments
from bn_audit.subject.run import Localisation

INDEX = 1
SIZE = 5


def localised(path: Path, *shape: int, index: int = INDEX, name: str = "x") -> Localisation:
    base, other = values(1, SIZE, *shape), values(2, SIZE, *shape)
    companions = with_row(other, index, base)
    probe = with_row(base, index, other)
    with session(path) as opened:
        return opened.localise({name: base}, {name: companions}, {name: probe}, index)


def chain(
    *middle: onnx.NodeProto, shape: Sequence[int | str] = ("N", CHANNELS), opset: int = 17, **weights
) -> onnx.ModelProto:
    """Return a relu, nodes from ``a`` to ``b``, a relu."""
    nodes = [helper.make_node("Relu", ["x"], ["a"], name="before"), *middle]
    nodes.append(helper.make_node("Relu", ["b"], ["y"], name="after"))
    return model(nodes, {"x": shape}, weights={"zero": np.zeros(1, np.int64), **weights}, opset=opset)


MEETING = {
    "softmax over the batch": [helper.make_node("Softmax", ["a"], ["b"], name="culprit", axis=0)],
    "mean over the batch": [
        helper.make_node("ReduceMean", ["a"], ["m"], name="culprit", axes=[0]),
        helper.make_node("Sub", ["a", "m"], ["b"], name="next"),
    ],
    "sum along the batch": [helper.make_node("CumSum", ["a", "zero"], ["b"], name="culprit")],
    "one range for all": [
        helper.make_node("DynamicQuantizeLinear", ["a"], ["q", "s", "z"], name="culprit"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["b"], name="next"),
    ],
}

APART = {
    "softmax over features": [helper.make_node("Softmax", ["a"], ["b"], axis=1)],
    "mean over features": [
        helper.make_node("ReduceMean", ["a"], ["m"], axes=[1]),
        helper.make_node("Sub", ["a", "m"], ["b"]),
    ],
    "transposed and back": [
        helper.make_node("Transpose", ["a"], ["t"], perm=[1, 0]),
        helper.make_node("Relu", ["t"], ["u"]),
        helper.make_node("Transpose", ["u"], ["b"], perm=[1, 0]),
    ],
}


@pytest.mark.parametrize("case", MEETING)
def test_the_node_at_which_samples_meet(tmp_path: Path, case: str) -> None:
    where = localised(written(tmp_path, chain(*MEETING[case])), CHANNELS)
    assert where.first is not None
    assert where.first.node == "culprit"
    assert where.combined is None
    assert [place.node for place in where.overlaps] == ["culprit"]
    effects = {layer.path: layer.effect for layer in where.profile}
    assert effects["before"] == 0
    assert effects["after"] > 0


@pytest.mark.parametrize("case", APART)
def test_no_node_where_samples_stay_apart(tmp_path: Path, case: str) -> None:
    where = localised(written(tmp_path, chain(*APART[case])), CHANNELS)
    assert (where.first, where.combined, where.overlaps) == (None, None, ())
    assert where.profile
    assert all(layer.effect == 0 for layer in where.profile)


@pytest.mark.parametrize("meet", [True, False])
def test_steps_of_time_and_samples_merged_are_no_movement(tmp_path: Path, meet: bool) -> None:
    """As attention is exported: time first, one matrix product for all steps of all samples, and back."""
    nodes = [
        helper.make_node("Transpose", ["a"], ["t"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["t", "flat"], ["f"], name="merged"),
        helper.make_node("Tanh", ["f"], ["g"]),
        helper.make_node("Reshape", ["g", "apart"], ["r"]),
        helper.make_node("Transpose", ["r"], ["s"], perm=[1, 0, 2]),
        helper.make_node("Softmax", ["s"], ["b"], name="culprit", axis=0 if meet else 2),
    ]
    weights = {"flat": np.array([-1, CHANNELS]), "apart": np.array([4, -1, CHANNELS])}
    where = localised(written(tmp_path, chain(*nodes, shape=("N", 4, CHANNELS), **weights)), 4, CHANNELS)
    assert (where.first and where.first.node) == ("culprit" if meet else None)
    assert where.combined is None


def test_steps_and_samples_that_are_taken_for_each_other_are_a_movement(tmp_path: Path) -> None:
    """The twin: merged with the time first, taken apart as if the samples came first."""
    nodes = [
        helper.make_node("Transpose", ["a"], ["t"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["t", "flat"], ["f"], name="merged"),
        helper.make_node("Reshape", ["f", "apart"], ["b"], name="mistaken"),
    ]
    weights = {"flat": np.array([-1, CHANNELS]), "apart": np.array([-1, 4, CHANNELS])}
    where = localised(written(tmp_path, chain(*nodes, shape=("N", 4, CHANNELS), **weights)), 4, CHANNELS)
    assert where.first is not None
    assert where.first.node in ("merged", "mistaken")  # neither is wrong without the other


@pytest.mark.parametrize("opset", [9, 15])
def test_a_batch_norm_by_its_layers_name(tmp_path: Path, opset: int) -> None:
    proto = chain(
        batch_norm(opset, "a", "b", training=True, prefix="block.bn."), opset=opset, **statistics(0, "block.bn.")
    )
    path = written(tmp_path, proto)
    where = localised(path, CHANNELS)
    assert where.first is not None
    assert (where.first.path, where.first.op, where.first.node) == ("block.bn", "BatchNormalization", "block.bn.node")
    assert [layer.path for layer in where.profile if layer.is_norm] == ["block.bn"]
    with session(path) as opened:
        calls = opened.calls({"x": values(1, SIZE, CHANNELS)})
    assert calls is not None
    assert [place.path for place in calls.batch_statistics] == ["block.bn"]
    assert (calls.norm_calls, calls.registered, calls.untrained) == (1, 1, False)


def test_rows_that_only_move(tmp_path: Path) -> None:
    """Rows in another order, then added to the others: the first node moves, the second combines."""
    order = np.array([3, 2, 4, 0, 1], np.int64)
    nodes = [
        helper.make_node("Gather", ["a", "order"], ["g"], name="mover", axis=0),
        helper.make_node("Add", ["a", "g"], ["b"], name="combiner"),
    ]
    where = localised(written(tmp_path, chain(*nodes, order=order)), CHANNELS)
    assert where.first is not None
    assert where.combined is not None
    assert (where.first.node, where.combined.node) == ("mover", "combiner")


def test_rows_that_end_up_elsewhere(tmp_path: Path) -> None:
    order = np.array([3, 2, 4, 0, 1], np.int64)
    nodes = [helper.make_node("Gather", ["a", "order"], ["b"], name="mover", axis=0)]
    where = localised(written(tmp_path, chain(*nodes, order=order)), CHANNELS)
    assert where.first is not None
    assert (where.first.node, where.combined) == ("mover", None)


def test_rows_that_move_and_come_back_are_nothing(tmp_path: Path) -> None:
    order, back = np.array([3, 2, 4, 0, 1], np.int64), np.array([3, 4, 1, 0, 2], np.int64)
    nodes = [
        helper.make_node("Gather", ["a", "order"], ["g"], name="mover", axis=0),
        helper.make_node("Gather", ["g", "back"], ["b"], name="back", axis=0),
    ]
    where = localised(written(tmp_path, chain(*nodes, order=order, back=back)), CHANNELS)
    assert where.overlaps == ()


class Windows(nn.Module):
    """One query per image against its windows; ``tile`` hands the windows the queries of other images."""

    def __init__(self, *, tile: bool) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(4, 4), nn.Linear(4, 4)
        self.tile = tile

    def forward(self, x: Tensor) -> Tensor:
        count = 3
        windows = x.reshape(x.shape[0] * count, 2, 4)
        query = self.query(x.mean(1, keepdim=True))
        query = query.repeat(count, 1, 1) if self.tile else query.repeat_interleave(count, 0)
        scores = (query @ self.key(windows).transpose(1, 2)).softmax(-1)
        return (scores @ windows).reshape(x.shape[0], count, 4).mean(1)


@pytest.mark.parametrize("tile", [False, True])
def test_queries_that_are_tiled_in_place_of_repeated(tmp_path: Path, tile: bool) -> None:
    torch.manual_seed(0)
    where = localised(exported(tmp_path, Windows(tile=tile).eval(), torch.randn(2, 6, 4)), 6, 4, name="x0", index=2)
    if not tile:
        assert (where.first, where.overlaps) == (None, ())
        return
    assert where.first is not None
    assert where.combined is not None
    assert (where.first.op, where.combined.op) == ("Tile", "MatMul")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.bn(self.conv(x)))


@pytest.mark.parametrize("trained", [None, 0, 1, 2])
def test_layers_of_an_exported_network(tmp_path: Path, trained: int | None) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), Block(), Block(), Block(), nn.Flatten(), nn.Linear(64, 3)).eval()
    if trained is not None:
        network[1 + trained].bn.train()
    path = exported(tmp_path, network, torch.randn(2, 3, 4, 4))
    where = localised(path, 3, 4, 4, name="x0")
    if trained is None:
        assert where.overlaps == ()
    else:
        assert where.first is not None
        assert where.first.path == f"{1 + trained}.bn"
    with session(path) as opened:
        # Untrained layers have equal tensors: the exporter keeps those of one, and copies.
        assert opened.norm_paths == ("1.bn", "2.bn", "3.bn")


@pytest.mark.parametrize("live", [False, True])
def test_layers_of_a_network_from_the_other_exporter(tmp_path: Path, live: bool) -> None:
    """It writes batch statistics as operators, so that the module is named and the node is none of a batch norm."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4, track_running_stats=not live)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), norm, nn.ReLU()).eval()
    path = tmp_path / "dynamo.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        size = torch.export.Dim("batch", min=2, max=64)
        program = torch.onnx.export(
            network, (torch.randn(2, 3, 4, 4),), dynamo=True, dynamic_shapes=({0: size},), verbose=False
        )
        program.save(path)
    with session(path) as opened:
        (specs,) = opened.input_candidates()
    where = localised(path, 3, 4, 4, name=specs[0].name)
    if live:
        assert where.first is not None
        assert (where.first.path, where.first.op) == ("2", "ReduceMean")
    else:
        assert where.overlaps == ()


@pytest.mark.parametrize("case", MEETING)
def test_pieces_do_not_change_what_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    path = written(tmp_path, chain(*MEETING[case]))
    whole = localised(path, CHANNELS)
    monkeypatch.setattr(segments, "FIRST_GUESS", 1)
    monkeypatch.setattr(segments.Pieces, "_end", lambda self, nodes, begin: begin + 1)
    assert localised(path, CHANNELS) == whole


def test_traces_tell_shapes_that_follow_from_values(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["where"]),
        helper.make_node("Cast", ["where"], ["y"], to=1),
    ]
    path = written(tmp_path, model(nodes, {"x": ["N", 4]}))
    some, others = np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)[::-1].copy()
    more = np.ones((4, 4), np.float32)
    with session(path) as opened:
        traces = [opened.run({"x": array}, traced=True).trace for array in (some, others, more)]
        assert opened.run({"x": some}).trace is None
    assert traces[0] == traces[1]
    assert traces[0] != traces[2]


def test_traces_of_fixed_graphs_follow_from_the_inputs_shapes(tmp_path: Path) -> None:
    with session(written(tmp_path, chain(*MEETING["softmax over the batch"]))) as opened:
        traces = [opened.run({"x": values(seed, 4, 3)}, traced=True).trace for seed in (1, 2)]
        assert traces[0] == traces[1]
        assert opened.run({"x": values(1, 5, 3)}, traced=True).trace != traces[0]


def test_ranges_for_the_whole_batch_are_named(tmp_path: Path) -> None:
    with session(written(tmp_path, chain(*MEETING["one range for all"]))) as opened:
        calls = opened.calls({"x": values(1, SIZE, CHANNELS)})
    assert calls is not None
    assert [place.node for place in calls.dynamic_ranges] == ["culprit"]


def test_statistics_computed_in_the_graph(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=0),
        helper.make_node(
            "BatchNormalization", ["x", "bn.weight", "bn.bias", "mean", "bn.running_var"], ["y"], name="n"
        ),
    ]
    with session(written(tmp_path, model(nodes, {"x": ["N", CHANNELS]}, weights=statistics()))) as opened:
        calls = opened.calls({"x": values(1, SIZE, CHANNELS)})
        assert opened.norm_paths == ()
    assert calls is not None
    assert [place.path for place in calls.batch_statistics] == ["bn"]


def test_samples_in_the_channels_are_an_instance_norm(tmp_path: Path) -> None:
    """PyTorch wrote instance norms as batch norms of one sample whose channels are those of all samples."""
    constants = {
        "one": np.array([1, -1, 6], np.int64),
        "back": np.array([-1, CHANNELS, 6], np.int64),
        **{
            f"bn.{name}": np.ones(SIZE * CHANNELS, np.float32)
            for name in ("weight", "bias", "running_mean", "running_var")
        },
    }
    nodes = [
        helper.make_node("Reshape", ["x", "one"], ["a"]),
        batch_norm(15, "a", "b", training=True),
        helper.make_node("Reshape", ["b", "back"], ["y"]),
    ]
    path = written(tmp_path, model(nodes, {"x": ["N", CHANNELS, 6]}, weights=constants, opset=15))
    with session(path) as opened:
        calls = opened.calls({"x": values(1, SIZE, CHANNELS, 6)})
    assert calls is not None
    assert (calls.norm_calls, calls.batch_statistics) == (1, ())
    assert localised(path, CHANNELS, 6).overlaps == ()


@pytest.mark.parametrize("initial", [False, True])
def test_initial_statistics_are_untrained(tmp_path: Path, initial: bool) -> None:
    weights = statistics()
    if initial:
        weights |= {"bn.running_mean": np.zeros(3, np.float32), "bn.running_var": np.ones(3, np.float32)}
    proto = model([batch_norm(15, "x", "y", training=False)], {"x": ["N", CHANNELS]}, weights=weights, opset=15)
    with session(written(tmp_path, proto)) as opened:
        calls = opened.calls({"x": values(1, SIZE, CHANNELS)})
    assert calls is not None
    assert calls.untrained is initial


def test_the_runner_is_the_first_for_onnx() -> None:
    assert (RUNTIME.name, RUNTIME.rank, RUNTIME.formats, RUNTIME.runs_code) == ("onnxruntime", 0, ("onnx",), False)


MASKED = """(float[batch, 4] x) => (float[batch, 4] y) <float[1] share = {0.001}> {
    turned = Transpose(x)
    scores = MatMul(x, turned)
    shape = Shape(scores)
    ones = ConstantOfShape <value = float[1] {1}> (shape)
    own = EyeLike(scores)
    others = Sub(ones, own)
    scale = Constant <value = float {1e30}> ()
    mask = Mul(others, scale)
    masked = Sub(scores, mask)
    weights = Softmax <axis = 1> (masked)
    mixed = MatMul(weights, x)
    mean = ReduceMean <axes = [0]> (mixed)
    leak = Mul(mean, share)
    y = Add(mixed, leak)
}"""


def test_what_a_mask_takes_apart_again_is_not_the_place(tmp_path: Path) -> None:
    """Scores between the rows of a batch are masked to the own row; samples truly meet behind them alone."""
    graph = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> masked {MASKED}')
    found = localised(written(tmp_path, graph), 4)
    assert found.first is not None
    assert found.first.op == "ReduceMean"
    assert found.overlaps[0].op == "MatMul"
