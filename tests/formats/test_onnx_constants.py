"""Tensors of ONNX batch norms that stand behind chains of constants, and those that are no constants."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_texts import VECTORS, head, parsed, subject_of

from bn_audit.subject.norm import Mode, NormLayer

CHAINS = {
    "identity": ("t = Identity (m)", [7.0, 8.0, 9.0]),
    "twice": ("u = Identity (m) t = Identity (u)", [7.0, 8.0, 9.0]),
    "constant": ("t = Constant <value_floats: floats = [1.5, 2.5, 3.5]> ()", [1.5, 2.5, 3.5]),
    "constant tensor": ("t = Constant <value = float[3] {1, 2, 4}> ()", [1.0, 2.0, 4.0]),
    "constant of shape": (
        "n = Constant <value_ints: ints = [3]> () t = ConstantOfShape <value = float[1] {2}> (n)",
        [2.0, 2.0, 2.0],
    ),
    "cast": ("d = Cast <to: int = 11> (m) t = Cast <to: int = 1> (d)", [7.0, 8.0, 9.0]),
    "reshape": (
        "a = Constant <value_ints: ints = [1, -1, 1]> () r = Reshape (m, a) t = Squeeze (r)",
        [7.0, 8.0, 9.0],
    ),
    "unsqueeze": ("a = Constant <value_ints: ints = [0]> () r = Unsqueeze (m, a) t = Squeeze (r, a)", [7.0, 8.0, 9.0]),
    "arithmetic": ("p = Add (m, b) q = Mul (p, s) r = Sub (q, v) t = Div (r, s)", [1.0, 7.5, 11.0]),
    "root": ("p = Mul (m, m) t = Sqrt (p)", [7.0, 8.0, 9.0]),
    "broadcast": ("two = Constant <value_float: float = 2> () t = Mul (m, two)", [14.0, 16.0, 18.0]),
    "dequantised": (
        "q = Constant <value = int8[3] {-4, 0, 6}> () f = Constant <value = float {0.5}> () "
        "o = Constant <value = int8 {2}> () t = DequantizeLinear (q, f, o)",
        [-3.0, -1.0, 2.0],
    ),
    "dequantised by channel": (
        "q = Constant <value = int8[3] {-4, 1, 6}> () t = DequantizeLinear <axis: int = 0> (q, s)",
        [-4.0, 2.0, 18.0],
    ),
}


def mean_of(nodes: str, directory: Path) -> NormLayer:
    text = f"""{head()} g (float[N,3,4,4] x) => (float[N,3,4,4] z) {VECTORS} {{
        {nodes} z = BatchNormalization (x, s, b, t, v)
    }}"""
    (norm,) = parsed(text, directory).norms
    return norm


@pytest.mark.parametrize("name", CHAINS)
def test_values_behind_chains_of_constants_are_exact(name: str, tmp_path: Path) -> None:
    nodes, expected = CHAINS[name]
    norm = mean_of(nodes, tmp_path)
    assert norm.running_mean is not None
    assert norm.running_mean.shape == (3,)
    assert list(norm.running_mean.values()) == expected
    assert norm.uses_batch_statistics is False


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_casts_round_as_numpy_does(dtype: str, tmp_path: Path) -> None:
    import ml_dtypes

    values = numpy.array([0.1, 1 / 3, 65504.1, -7e-8, 1.00390625], dtype=numpy.float32)
    target = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16, "float64": TensorProto.DOUBLE}[dtype]
    nodes = [
        helper.make_node("Cast", ["m"], ["d"], to=target),
        helper.make_node("Cast", ["d"], ["t"], to=TensorProto.FLOAT),
        helper.make_node("BatchNormalization", ["x", "m", "m", "t", "m"], ["z"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 5])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, "m")],
    )
    (norm,) = subject_of(helper.make_model(graph), tmp_path).norms
    wanted = values.astype(getattr(ml_dtypes, dtype, dtype)).astype(numpy.float32)
    assert norm.running_mean is not None
    assert list(norm.running_mean.values()) == wanted.tolist()


def test_constant_that_is_not_followed_is_stored_and_noted(tmp_path: Path) -> None:
    text = f"""{head()} g (float[N,3,4,4] x) => (float[N,3,4,4] z) {VECTORS} {{
        t = Einsum <equation: string = "i->i"> (m)
        z = BatchNormalization (x, s, b, t, v)
    }}"""
    subject = parsed(text, tmp_path)
    (norm,) = subject.norms
    assert norm.running_mean is None
    assert norm.uses_batch_statistics is False
    assert len(subject.unread) == 1


def test_statistics_given_at_each_run_are_the_callers(tmp_path: Path) -> None:
    text = f"""{head()} g (float[N,3,4,4] x, float[3] gm, float[1,3] gv) => (float[N,3,4,4] z) {VECTORS} {{
        axes = Constant <value_ints: ints = [0]> ()
        v1 = Squeeze (gv, axes)
        z = BatchNormalization (x, s, b, gm, v1)
    }}"""
    (norm,) = parsed(text, tmp_path).norms
    assert (norm.mode, norm.uses_batch_statistics) == (Mode.CALLER, None)
    assert norm.running_mean is None
    assert norm.weight is not None
