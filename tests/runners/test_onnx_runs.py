"""Runs of ONNX models: the same numbers as onnxruntime, a fresh state where a run leaves one, errors in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_runs import (
    CHANNELS,
    bare,
    batch_norm,
    exported,
    model,
    norm_model,
    session,
    statistics,
    values,
    with_row,
    written,
)
from torch import nn, randn

from bn_audit.errors import RunError, UnsupportedRunError

ROLES = ("weight", "bias", "running_mean", "running_var")
TRAINING_SETS = (7, 9, 14, 15, 17)


@pytest.mark.parametrize("opset", TRAINING_SETS)
@pytest.mark.parametrize("training", [False, True])
def test_outputs_are_those_of_the_runtime(tmp_path: Path, opset: int, training: bool) -> None:
    path = written(tmp_path, norm_model(opset, training=training))
    batch = {"x": values(1, 5, CHANNELS, 4, 4)}
    with session(path) as opened:
        run = opened.run(batch, batch)
        again = opened.run(batch)
    expected = bare(path, batch, batch)
    for given, wanted in zip((*run.outputs, again.outputs[0]), (*expected, expected[0]), strict=True):
        np.testing.assert_array_equal(given["y"], wanted[0])
    assert len(run.seconds) == 2


@pytest.mark.parametrize("opset", TRAINING_SETS)
def test_a_training_batch_norm_overwrites_its_statistics_and_an_evaluated_one_does_not(
    tmp_path: Path, opset: int
) -> None:
    batch = {"x": values(1, 5, CHANNELS, 4, 4)}
    with session(written(tmp_path, norm_model(opset, training=True))) as opened:
        # The runtime's kernel for operator set 7 leaves them alone.
        assert opened.run(batch).changed == (("bn.running_mean", "bn.running_var") if opset >= 9 else ())
        assert opened.state_names == ("bn.running_mean", "bn.running_var")
    with session(written(tmp_path, norm_model(opset, training=False))) as opened:
        assert opened.run(batch).changed == ()


def test_statistics_that_are_outputs_are_not_overwritten(tmp_path: Path) -> None:
    nodes = [batch_norm(15, "x", "y", training=True)]
    proto = model(nodes, {"x": ["N", CHANNELS]}, ["y", "y.0", "y.1"], statistics(), 15)
    with session(written(tmp_path, proto)) as opened:
        assert opened.run({"x": values(1, 5, CHANNELS)}).changed == ()


def test_every_run_starts_from_the_statistics_of_the_file(tmp_path: Path) -> None:
    """A second node evaluates with the statistics that the first one overwrites: the second call of one copy drifts."""
    nodes = [batch_norm(15, "x", "trained", training=True)]
    evaluated = batch_norm(15, "x", "y", training=False)
    evaluated.name = "evaluated"
    proto = model([*nodes, evaluated], {"x": ["N", CHANNELS]}, ["y", "trained"], statistics(), 15)
    path = written(tmp_path, proto)
    batch = {"x": values(1, 5, CHANNELS)}
    with session(path) as opened:
        first, second = opened.run(batch, batch).outputs
        assert not np.array_equal(first["y"], second["y"])
        fresh = opened.run(batch).outputs[0]
    np.testing.assert_array_equal(fresh["y"], first["y"])
    np.testing.assert_array_equal(second["y"], bare(path, batch, batch)[1][0])


def test_modes_can_be_set(tmp_path: Path) -> None:
    batch = {"x": values(1, 5, CHANNELS, 4, 4)}
    evaluated = bare(written(tmp_path, norm_model(15, training=False)), batch)[0][0]
    path = written(tmp_path, norm_model(15, training=True))
    trained = bare(path, batch)[0][0]
    with session(path) as opened:
        assert opened.norm_paths == ("bn",)
        assert opened.in_mode(training=False, paths=["nothing"]) is None
        for other, wanted in ((False, evaluated), (True, trained)):
            changed = opened.in_mode(training=other, paths=["bn"])
            assert changed is not None
            np.testing.assert_array_equal(changed.run(batch).outputs[0]["y"], wanted)
        np.testing.assert_array_equal(opened.run(batch).outputs[0]["y"], trained)


@pytest.mark.parametrize("opset", [9, 15])
def test_an_evaluated_batch_norm_can_be_set_to_training(tmp_path: Path, opset: int) -> None:
    batch = {"x": values(1, 5, CHANNELS, 4, 4)}
    trained = bare(written(tmp_path, norm_model(opset, training=True)), batch)[0][0]
    with session(written(tmp_path, norm_model(opset, training=False))) as opened:
        changed = opened.in_mode(training=True)
        assert changed is not None
        np.testing.assert_array_equal(changed.run(batch).outputs[0]["y"], trained)


def test_statistics_that_are_copies_of_stored_ones(tmp_path: Path) -> None:
    """The exporter keeps one of two equal tensors and a copy of it under the other's name.

    onnxruntime overwrites the tensor through the copy, so that the layer that evaluates with it drifts.
    """
    nodes = [
        *(helper.make_node("Identity", [f"bn.{role}"], [f"other.{role}"]) for role in ROLES),
        helper.make_node("BatchNormalization", ["x", *(f"bn.{role}" for role in ROLES)], ["a"], name="first"),
        helper.make_node(
            "BatchNormalization",
            ["a", *(f"other.{role}" for role in ROLES)],
            ["y", "p", "q"],
            training_mode=1,
        ),
    ]
    batch = {"x": values(1, 5, CHANNELS)}
    with session(written(tmp_path, model(nodes, {"x": ["N", CHANNELS]}, weights=statistics(), opset=15))) as opened:
        assert opened.norm_paths == ("bn", "other")
        assert opened.run(batch).changed == ("bn.running_mean", "bn.running_var")
        evaluated = opened.in_mode(training=False, paths=["other"])
        assert evaluated is not None
        output = evaluated.run(batch).outputs[0]["y"]
    tensors = statistics()
    expected = batch["x"]
    for _ in range(2):
        expected = (expected - tensors["bn.running_mean"]) / np.sqrt(tensors["bn.running_var"] + 1e-5)
        expected = expected * tensors["bn.weight"] + tensors["bn.bias"]
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


def test_no_mode_without_a_batch_norm_or_for_standardised_weights(tmp_path: Path) -> None:
    weights = {"w": values(2, 6, CHANNELS), **statistics()}
    nodes = [batch_norm(15, "w", "s", training=True), helper.make_node("MatMul", ["x", "s"], ["y"])]
    proto = model(nodes, {"x": ["N", 6]}, weights=weights, opset=15)
    with session(written(tmp_path, proto)) as opened:
        assert opened.norm_paths == ()
        assert opened.in_mode(training=False) is None
        calls = opened.calls({"x": values(1, 4, 6)})
        assert calls is not None
        assert (calls.norm_calls, calls.batch_statistics) == (0, ())


def test_dropout_follows_the_seed_and_the_optimised_form_has_none(tmp_path: Path) -> None:
    constants = {"ratio": np.array(0.5, np.float32), "training": np.array(True)}
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Dropout", ["a", "ratio", "training"], ["b"], name="drop", seed=3),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    path = written(tmp_path, model(nodes, {"x": ["N", 8]}, weights=constants))
    batch = {"x": np.ones((4, 8), np.float32)}
    with session(path) as opened:
        first, second = (run["y"] for run in opened.run(batch, batch, seed=1).outputs)
        assert not np.array_equal(first, second)
        np.testing.assert_array_equal(opened.run(batch, seed=1).outputs[0]["y"], first)
        assert not np.array_equal(opened.run(batch, seed=2).outputs[0]["y"], first)
        sibling = opened.sibling()
        assert sibling is not None
        assert sibling.sibling() is None
        np.testing.assert_array_equal(sibling.run(batch, seed=1).outputs[0]["y"], batch["x"])


@pytest.mark.parametrize("op", ["RandomNormalLike", "RandomUniformLike", "Bernoulli"])
def test_random_operators_follow_the_seed(tmp_path: Path, op: str) -> None:
    nodes = [helper.make_node("Sigmoid", ["x"], ["p"]), helper.make_node(op, ["p"], ["y"], seed=7.0)]
    batch = {"x": values(1, 4, 16)}
    with session(written(tmp_path, model(nodes, {"x": ["N", 16]}))) as opened:
        outputs = [opened.run(batch, seed=seed).outputs[0]["y"] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])


def test_the_optimised_form_computes_the_same(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)).eval()
    path = exported(tmp_path, network, randn(2, 3, 6, 6))
    batch = {"x0": values(1, 5, 3, 6, 6)}
    with session(path) as opened:
        sibling = opened.sibling()
        assert sibling is not None
        np.testing.assert_array_equal(sibling.run(batch).outputs[0]["y"], bare(path, batch, optimised=True)[0][0])
        np.testing.assert_array_equal(opened.run(batch).outputs[0]["y"], bare(path, batch)[0][0])
        assert (opened.runner, opened.dtype, opened.threads) == ("onnxruntime", "float32", 1)
        assert {"onnxruntime", "onnx"} <= opened.environment.keys()


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64])
def test_jittered_weights_differ_by_one_unit_and_are_put_back(tmp_path: Path, kind: type) -> None:
    weight = np.array([[1.5, -2.5, 0.0, 3e-5]], kind)
    nodes = [helper.make_node("Mul", ["x", "w"], ["y"])]
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    proto = model(nodes, {"x": ["N", 4]}, weights={"w": weight}, kinds={"x": number})
    ones = {"x": np.ones((1, 4), kind)}
    with session(written(tmp_path, proto)) as opened:
        moved = opened.run(ones, weight_jitter=5).outputs[0]["y"][0]
        np.testing.assert_array_equal(opened.run(ones).outputs[0]["y"], weight)
        np.testing.assert_array_equal(opened.run(ones, weight_jitter=5).outputs[0]["y"][0], moved)
    assert moved[2] == 0
    for value, before in zip(moved[[0, 1, 3]], weight[0, [0, 1, 3]], strict=True):
        assert value in (np.nextafter(before, kind(9)), np.nextafter(before, kind(-9)))
        assert value != before


def test_large_weights_are_jittered_too(tmp_path: Path) -> None:
    weight = values(3, 128, 64)
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["N", 128]}, weights={"w": weight})
    with session(written(tmp_path, proto)) as opened:
        moved = opened.run({"x": np.eye(128, dtype=np.float32)}, weight_jitter=1).outputs[0]["y"]
    assert np.all(moved != weight)
    np.testing.assert_allclose(moved, weight, rtol=2.0**-22)


def test_double_precision_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, norm_model(15, training=False))
    with session(path) as opened, pytest.raises(UnsupportedRunError, match="float64"):
        opened.run({"x": values(1, 2, CHANNELS, 4, 4)}, float64=True)


def test_another_type_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, norm_model(15, training=False))
    with (
        pytest.raises(UnsupportedRunError, match="its own type, float32, not in float16"),
        session(path, dtype="float16"),
    ):
        pass
    with session(path, dtype="float32") as opened:
        assert opened.dtype == "float32"


def test_cuda_is_refused_where_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    path = written(tmp_path, norm_model(15, training=False))
    with pytest.raises(UnsupportedRunError, match="onnxruntime-gpu"), session(path, device="cuda:0"):
        pass
    with pytest.raises(UnsupportedRunError, match="cpu, cuda or cuda:N"), session(path, device="tpu"):
        pass


def test_a_failing_batch_is_one_line_that_names_the_node(tmp_path: Path) -> None:
    constants = {"shape": np.array([5, -1], np.int64)}
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"], name="hard coded")]
    with session(written(tmp_path, model(nodes, {"x": ["N", 3]}, weights=constants))) as opened:
        opened.run({"x": values(1, 5, 3)})
        with pytest.raises(RunError) as failure:
            opened.run({"x": values(1, 4, 3)})
    text = str(failure.value)
    assert text.startswith("Reshape node 'hard coded': The input tensor cannot be reshaped")
    assert "\n" not in text


@pytest.mark.parametrize(
    "proto",
    [
        model([helper.make_node("Foo", ["x"], ["y"], domain="mine")], {"x": ["N", 2]}, domains=("mine",)),
        model(
            [helper.make_node("BatchNormalization", ["x", "w", "w", "w", "w"], ["y"], training_mode=1)],
            {"x": ["N", 2]},
            weights={"w": np.ones(2, np.float32)},
            opset=15,
        ),
    ],
    ids=["unknown operator", "training with one output"],
)
def test_what_the_runtime_refuses_is_left_to_another_backend(tmp_path: Path, proto: onnx.ModelProto) -> None:
    with pytest.raises(UnsupportedRunError, match="cannot load it"), session(written(tmp_path, proto)):
        pass


def test_bfloat16_inputs_and_outputs(tmp_path: Path) -> None:
    import ml_dtypes

    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "wide"], ["square"]),
        helper.make_node("Cast", ["square"], ["y"], to=TensorProto.BFLOAT16),
    ]
    kinds = {"x": TensorProto.BFLOAT16, "y": TensorProto.BFLOAT16}
    batch = {"x": values(1, 3, 5).astype(ml_dtypes.bfloat16)}
    with session(written(tmp_path, model(nodes, {"x": ["N", 5]}, kinds=kinds))) as opened:
        (specs,) = opened.input_candidates()
        output = opened.run(batch).outputs[0]["y"]
        assert (specs[0].dtype, opened.dtype) == ("bfloat16", "bfloat16")
        where = opened.localise(
            batch,
            {"x": with_row(values(2, 3, 5).astype(ml_dtypes.bfloat16), 1, batch["x"])},
            {"x": with_row(batch["x"], 1, values(3, 3, 5).astype(ml_dtypes.bfloat16))},
            1,
        )
        assert where.first is None
    assert output.dtype == ml_dtypes.bfloat16
    wide = batch["x"].astype(np.float32)
    np.testing.assert_array_equal(output, (wide * wide).astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize("kind", ["FLOAT8E4M3FN", "FLOAT8E5M2"])
def test_float8_outputs(tmp_path: Path, kind: str) -> None:
    import ml_dtypes

    number = getattr(TensorProto, kind)
    own = {"FLOAT8E4M3FN": ml_dtypes.float8_e4m3fn, "FLOAT8E5M2": ml_dtypes.float8_e5m2}[kind]
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=number)]
    batch = {"x": values(1, 3, 5)}
    with session(written(tmp_path, model(nodes, {"x": ["N", 5]}, kinds={"y": number}, opset=19))) as opened:
        output = opened.run(batch).outputs[0]["y"]
    np.testing.assert_array_equal(output.astype(np.float32), batch["x"].astype(own).astype(np.float32))


def test_members_of_a_sequence_are_outputs_of_their_own(tmp_path: Path) -> None:
    nodes = [helper.make_node("SplitToSequence", ["x"], ["y"], axis=1)]
    proto = model(nodes, {"x": ["N", 2]})
    proto.graph.output[0].CopyFrom(
        helper.make_value_info("y", helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, None)))
    )
    batch = {"x": values(1, 3, 2)}
    with session(written(tmp_path, proto)) as opened:
        outputs = opened.run(batch).outputs[0]
    assert list(outputs) == ["y.0", "y.1"]
    np.testing.assert_array_equal(outputs["y.1"], batch["x"][:, 1:])
