"""The reference implementation as a backend: for what onnxruntime refuses, and never wrong about batch norms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from onnx_runs import CHANNELS, REFERENCE, bare, batch_norm, model, norm_model, session, statistics, values, written

from bn_audit.errors import RunError, UnsupportedRunError
from bn_audit.measuring.opening import opened
from bn_audit.subject.run import Job

BATCH = {"x": values(1, 5, CHANNELS, 4, 4)}


@pytest.mark.parametrize("opset", [6, 7, 9, 14, 15, 18])
def test_evaluated_batch_norms_of_every_operator_set(tmp_path: Path, opset: int) -> None:
    tensors = statistics()
    axes = (1, CHANNELS, 1, 1)
    scale = tensors["bn.weight"] / np.sqrt(tensors["bn.running_var"] + 1e-5)
    nodes = [batch_norm(opset, "x", "y", training=False)]
    if opset == 6:
        nodes[0].attribute.append(helper.make_attribute("is_test", 1))
    proto = model(nodes, {"x": ["N", CHANNELS, 4, 4]}, weights=tensors, opset=opset)
    with session(written(tmp_path, proto), REFERENCE) as running:
        output = running.run(BATCH).outputs[0]["y"]
    shifted = (BATCH["x"] - tensors["bn.running_mean"].reshape(axes)) * scale.reshape(axes)
    np.testing.assert_allclose(output, shifted + tensors["bn.bias"].reshape(axes), rtol=1e-4, atol=1e-5)


def test_training_batch_norms(tmp_path: Path) -> None:
    path = written(tmp_path, norm_model(15, training=True))
    with session(path, REFERENCE) as running:
        run = running.run(BATCH)
        assert run.changed == ()
        assert running.runner == "onnx-reference"
        evaluated = running.in_mode(training=False)
        assert evaluated is not None
        inferred = evaluated.run(BATCH).outputs[0]["y"]
    np.testing.assert_allclose(run.outputs[0]["y"], bare(path, BATCH)[0][0], rtol=1e-4, atol=1e-5)
    expected = bare(written(tmp_path, norm_model(15, training=False), "evaluated.onnx"), BATCH)[0][0]
    np.testing.assert_allclose(inferred, expected, rtol=1e-4, atol=1e-5)


def test_training_below_operator_set_14_is_converted_rightly_or_refused(tmp_path: Path) -> None:
    path = written(tmp_path, norm_model(9, training=True))
    try:
        with session(path, REFERENCE) as running:
            output = running.run(BATCH).outputs[0]["y"]
    except UnsupportedRunError:
        return
    np.testing.assert_allclose(output, bare(path, BATCH)[0][0], rtol=1e-4, atol=1e-5)


def test_random_operators_follow_the_seed(tmp_path: Path) -> None:
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["a"]), helper.make_node("RandomNormalLike", ["x"], ["b"])]
    nodes.append(helper.make_node("Sub", ["a", "b"], ["y"]))
    batch = {"x": values(1, 4, 16)}
    with session(written(tmp_path, model(nodes, {"x": ["N", 16]})), REFERENCE) as running:
        outputs = [running.run(batch, seed=seed).outputs[0]["y"] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])
    assert np.any(outputs[0])


def test_localisation_and_large_weights(tmp_path: Path) -> None:
    weights = {"w": values(3, 128, 64)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="apart"),
        helper.make_node("Softmax", ["a"], ["y"], name="culprit", axis=0),
    ]
    path = written(tmp_path, model(nodes, {"x": ["N", 128]}, weights=weights))
    base, other = values(1, 4, 128), values(2, 4, 128)
    companions, probe = other.copy(), base.copy()
    companions[1], probe[1] = base[1], other[1]
    with session(path, REFERENCE) as running:
        where = running.localise({"x": base}, {"x": companions}, {"x": probe}, 1)
    assert where.first is not None
    assert where.first.node == "culprit"


def test_what_the_runtime_lacks(tmp_path: Path) -> None:
    """onnxruntime has no batch norm of operator set 6."""
    nodes = [batch_norm(6, "x", "y", training=False)]
    nodes[0].attribute.append(helper.make_attribute("is_test", 1))
    path = written(tmp_path, model(nodes, {"x": ["N", CHANNELS, 4, 4]}, weights=statistics(), opset=6))
    with pytest.raises(UnsupportedRunError), session(path):
        pass
    job = Job(source=str(path), format="onnx", threads=1)
    with opened(job, lambda what, passes: None) as found:
        assert found.runner == "onnx-reference"
        assert found.norm_paths == ("bn",)


def test_failures_and_refusals(tmp_path: Path) -> None:
    path = written(tmp_path, norm_model(15, training=False))
    with pytest.raises(UnsupportedRunError, match="CPU only"), session(path, REFERENCE, device="cuda"):
        pass
    with session(path, REFERENCE) as running:
        assert running.sibling() is None
        assert running.threads == 1 or running.threads is None
        with pytest.raises(RunError):
            running.run({"x": values(1, 2, CHANNELS + 1, 4, 4)})
    unknown = model([helper.make_node("Foo", ["x"], ["y"], domain="mine")], {"x": ["N", 2]}, domains=("mine",))
    with (
        pytest.raises(UnsupportedRunError, match="cannot load it"),
        session(written(tmp_path, unknown), REFERENCE),
    ):
        pass


def test_it_comes_after_the_runtime() -> None:
    assert (REFERENCE.name, REFERENCE.rank, REFERENCE.formats) == ("onnx-reference", 1, ("onnx",))
