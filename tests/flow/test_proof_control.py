"""Loops, branches, scans and sequences: proved and measured."""

from __future__ import annotations

import onnx
import onnx.parser
import pytest
from onnx_graphs import floats, measured, proof_of

HEAD = '<ir_version: 8, opset_import: ["" : 17]> agraph (float[batch, 6] x) => (float[batch, 6] y)'

MODELS: dict[str, tuple[str, str]] = {
    "loop of three turns": (
        """{
        count = Constant <value_int: int = 3> () going = Constant <value = bool {1}> ()
        y = Loop <body = body (int64 i, bool c, float[batch, 6] s) => (bool c2, float[batch, 6] s2) {
            c2 = Identity(c)  t = Tanh(s)  s2 = Add(t, x)
        }> (count, going, x)
        }""",
        "independent",
    ),
    "loop that mixes in each turn": (
        """{
        count = Constant <value_int: int = 3> () going = Constant <value = bool {1}> ()
        y = Loop <body = body (int64 i, bool c, float[batch, 6] s) => (bool c2, float[batch, 6] s2) {
            c2 = Identity(c)  m = ReduceMean <axes = [0]> (s)  s2 = Add(s, m)
        }> (count, going, x)
        }""",
        "mixes",
    ),
    "loop over the rows": (
        """{
        shape = Shape(x) zero = Constant <value_int: int = 0> () rows = Gather(shape, zero)
        going = Constant <value = bool {1}> ()
        y = Loop <body = body (int64 i, bool c) => (bool c2, float[6] row) {
            c2 = Identity(c)  r = Gather <axis = 0> (x, i)  row = Tanh(r)
        }> (rows, going)
        }""",
        "independent",
    ),
    "loop over the rows that keeps a state": (
        """{
        shape = Shape(x) zero = Constant <value_int: int = 0> () rows = Gather(shape, zero)
        going = Constant <value = bool {1}> () start = Constant <value = float[6] {0, 0, 0, 0, 0, 0}> ()
        last, y = Loop <body = body (int64 i, bool c, float[6] s) => (bool c2, float[6] s2, float[6] row) {
            c2 = Identity(c)  r = Gather <axis = 0> (x, i)  s2 = Add(s, r)  row = Identity(s2)
        }> (rows, going, start)
        }""",
        "mixes",
    ),
    "loop until the batch is sure": (
        """{
        count = Constant <value_int: int = 9> () going = Constant <value = bool {1}> ()
        limit = Constant <value_float: float = 2.0> ()
        y = Loop <body = body (int64 i, bool c, float[batch, 6] s) => (bool c2, float[batch, 6] s2) {
            two = Constant <value_float: float = 1.5> ()  s2 = Mul(s, two)
            a = Abs(s2)  m = ReduceMean <keepdims = 0> (a)  c2 = Less(m, limit)
        }> (count, going, x)
        }""",
        "mixes",
    ),
    "branch on a constant": (
        """{
        going = Constant <value = bool {1}> ()
        y = If (going) <
            then_branch = a () => (float[batch, 6] p) { p = Tanh(x) },
            else_branch = b () => (float[batch, 6] q) { m = ReduceMean <axes = [0]> (x)  q = Sub(x, m) }
        >
        }""",
        "independent",
    ),
    "branch on the mean of the batch": (
        """{
        m = ReduceMean <keepdims = 0> (x) zero = Constant <value_float: float = 0.0> () going = Greater(m, zero)
        y = If (going) <
            then_branch = a () => (float[batch, 6] p) { p = Tanh(x) },
            else_branch = b () => (float[batch, 6] q) { q = Sigmoid(x) }
        >
        }""",
        "mixes",
    ),
    "scan along the features": (
        """{
        s0 = ReduceSum <keepdims = 0> (x, one) zero = Sub(s0, s0)
        last, t = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [1],
            body = body (float[batch] s, float[batch] v) => (float[batch] s2, float[batch] o) {
            s2 = Add(s, v)  o = Tanh(s2) }> (zero, x)
        y = Identity(t)
        }""",
        "independent",
    ),
    "scan along the rows": (
        """{
        start = Constant <value = float[6] {0, 0, 0, 0, 0, 0}> ()
        last, y = Scan <num_scan_inputs = 1, body = body (float[6] s, float[6] v) => (float[6] s2, float[6] o) {
            s2 = Add(s, v)  o = Tanh(s2) }> (start, x)
        }""",
        "mixes",
    ),
    "sequence of columns": (
        """{
        parts = SplitToSequence <axis = 1> (x) zero = Constant <value_int: int = 0> ()
        first = SequenceAt(parts, zero) more = SequenceInsert(parts, first)
        fewer = SequenceErase(more, zero)
        y = ConcatFromSequence <axis = 1> (fewer)
        }""",
        "independent",
    ),
}


def model_of(name: str) -> onnx.ModelProto:
    body, _ = MODELS[name]
    model = onnx.parser.parse_model(HEAD + body)
    if "one)" in body:
        model.graph.initializer.append(onnx.helper.make_tensor("one", onnx.TensorProto.INT64, [1], [1]))
    return model


@pytest.mark.parametrize("name", MODELS)
def test_control_flow(name: str) -> None:
    expected = MODELS[name][1]
    model = model_of(name)
    assert measured(model, [floats(6)]) == [expected]
    for form in (model, model.SerializeToString()):
        (flow,) = proof_of(form).outputs
        assert flow.verdict == expected, flow
