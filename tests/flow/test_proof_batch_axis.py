"""Where the samples lie, and batch sizes that a graph fixes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
from onnx_graphs import converted, floats, measured, proof_of

from bn_audit.flow.proof import Proof, prove

ROWS = "{" + ", ".join(["1, 2, 3, 4, 5, 6"] * 4) + "}"


def model(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> agraph {text}')


def proved(text: str) -> Proof:
    return proof_of(model(text))


def verdict(text: str) -> str:
    (flow,) = proved(text).outputs
    return flow.verdict


CENTRED = "(float[batch, 6] x) => (float[batch, 6] y) { m = ReduceMean <axes = [0]> (x) y = Sub(x, m) }"
FIXED = "{ s = Constant <value = int64[2] {%d, 6}> () r = Reshape(x, s) y = Tanh(r) }"


@pytest.mark.parametrize("size", [1, 4])
def test_a_static_graph_is_followed_as_if_it_were_open(size: int) -> None:
    proof = proved(f"(float[{size}, 6] x) => (float[{size}, 6] y) {FIXED % size}")
    assert proof.outputs[0].verdict == "independent"
    assert len(proof.relaxed) == 1
    assert str(size) in proof.relaxed[0]
    assert proof.marks == ()


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_batch_size_behind_an_open_axis_is_marked(size: int) -> None:
    proof = proved(f"(float[batch, 6] x) => (float[batch, 6] y) {FIXED % size}")
    assert proof.outputs[0].verdict == "independent"
    assert [(mark.kind, mark.node) for mark in proof.marks] == [("fixed-batch", "Reshape#1")]
    assert f"to {size}" in proof.marks[0].why


def test_an_open_shape_is_not_relaxed() -> None:
    proof = proved(
        "(float[batch, 6] x) => (float[batch, 6] y) { s = Constant <value = int64[2] {-1, 6}> () y = Reshape(x, s) }"
    )
    assert proof.relaxed == proof.marks == ()


def test_samples_folded_into_channels_are_not_relaxed() -> None:
    """A leading 1 that is meant: the batch norm in training form sees each channel of each sample apart."""
    text = """(float[1, 3, 8] x) => (float[1, 3, 8] y) <float[3] one = {1, 1, 1}> {
        s = Constant <value = int64[3] {1, -1, 8}> () f = Reshape(x, s)
        m = ReduceMean <axes = [2]> (f) c = Sub(f, m) t = Shape(x) y = Reshape(c, t) }"""
    proof = proved(text)
    assert proof.outputs[0].verdict == "independent"
    assert proof.relaxed == ()


def test_constants_of_as_many_rows_as_a_static_batch_are_compared() -> None:
    alike = f"(float[4, 6] x) => (float[4, 6] y) <float[4, 6] c = {ROWS}> {{ y = Add(x, c) }}"
    assert verdict(alike) == "independent"
    other = alike.replace("4, 5, 6}", "4, 5, 7}")
    assert verdict(other) == "position"
    mixing = alike.replace("y = Add(x, c)", "m = ReduceMean <axes = [0]> (x) z = Sub(x, m) y = Add(z, c)")
    assert verdict(mixing) == "mixes"


def test_a_static_batch_of_one_can_still_mix() -> None:
    text = """(float[1, 3, 4] x) => (float[1, 12] y) <float[3] one = {1, 1, 1}> {
        b, m, v = BatchNormalization <training_mode = 1> (x, one, one, one, one)
        s = Constant <value = int64[2] {1, -1}> () y = Reshape(b, s) }"""
    assert verdict(text) == "mixes"


@pytest.mark.parametrize(("axis", "expected"), [(0, "independent"), (1, "mixes")])
def test_the_axis_that_is_called_batch_holds_the_samples(axis: int, expected: str) -> None:
    text = f"(float[time, batch, 6] x) => (float[n, 6] y) {{ y = ReduceMean <axes = [{axis}], keepdims = 0> (x) }}"
    assert verdict(text) == expected


OVER_TIME = "s = Constant <value = int64 {0}> () c = CumSum(x, s) "
OVER_SAMPLES = "m = ReduceMean <axes = [1]> (c) y = Sub(c, m)"


def test_the_only_open_axis_holds_the_samples_where_the_steps_of_a_fixed_first_one_meet() -> None:
    apart, meeting = (
        proved(f"(float[7, s27, 6] x) => (float[7, s27, 6] y) {{ {OVER_TIME} {rest} }}").outputs[0]
        for rest in ("y = Tanh(c)", OVER_SAMPLES)
    )
    assert apart.verdict == "independent"
    assert meeting.verdict == "mixes"
    assert meeting.node is not None
    assert meeting.node.startswith("ReduceMean")


def test_a_fixed_first_axis_holds_the_samples_where_those_of_the_open_one_meet_before() -> None:
    text = "(float[7, s27, 6] x) => (float[7, s27, 6] y) { s = Constant <value = int64 {1}> () c = CumSum(x, s) %s }"
    assert proved(text % "y = Tanh(c)").outputs[0].verdict == "independent"
    mixing = proved(text % "m = ReduceMean <axes = [0]> (c) y = Sub(c, m)").outputs[0]
    assert mixing.verdict == "mixes"
    assert mixing.node is not None
    assert mixing.node.startswith("ReduceMean")


def test_inputs_without_the_batch_are_shared() -> None:
    assert (
        verdict(
            "(float[batch, 6] x, float[labels, 6] k) => (float[batch, labels] y) { t = Transpose(k) y = MatMul(x, t) }"
        )
        == "independent"
    )


def test_inputs_with_batches_of_their_own_names_hold_samples_too() -> None:
    assert (
        verdict("(float[unk__1, 6] x, float[unk__2, 6] z) => (float[unk__3, 6] y) { y = Add(x, z) }") == "independent"
    )
    assert verdict("(float[batch_a, 6] x, float[rows, 6] z) => (float[unk, 6] y) { y = Add(x, z) }") == "independent"


def test_two_inputs_that_cross_over() -> None:
    text = """(float[batch, 6] x, float[batch, 6] z) => (float[batch, 6] y) {
        a = Constant <value = int64[1] {-1}> () e = Constant <value = int64[1] {-9223372036854775807}> ()
        o = Constant <value = int64[1] {0}> () r = Slice(z, a, e, o, a) y = Add(x, r) }"""
    assert measured(model(text), [floats(6), floats(6)]) == ["mixes"]
    assert verdict(text) == "mixes"


def test_sizes_computed_from_open_ones() -> None:
    text = "(float[batch, past] x, float[batch, 'past + 1'] z) => (float[batch, 'past + 1'] y) "
    text += "{ p = Constant <value = int64[4] {0, 0, 0, 1}> () q = Pad(x, p) y = Add(q, z) }"
    grown = model(text.replace("'past + 1'", "total"))
    for value in (grown.graph.input[1], grown.graph.output[0]):
        value.type.tensor_type.shape.dim[1].dim_param = "past + 1"
    assert proof_of(grown).outputs[0].verdict == "independent"


def test_outputs_without_a_batch_axis() -> None:
    text = """(float[batch, 6] x) => (float m, float[6] first, float[2] c, int64[1] n) {
        m = ReduceMean <keepdims = 0> (x) o = Constant <value = int64 {0}> () first = Gather(x, o)
        c = Constant <value = float[2] {1, 2}> () n = Shape <end = 1> (x) }"""
    assert [flow.verdict for flow in proved(text).outputs] == ["mixes", "position", "independent", "size"]


def test_an_output_that_counts_the_rows() -> None:
    text = """(float[batch, 6] x) => (int64[batch] y) {
        s = Shape(x) o = Constant <value = int64 {0}> () n = Gather(s, o) e = Constant <value = int64 {1}> ()
        y = Range(o, n, e) }"""
    assert measured(model(text), [floats(6)]) == ["position"]
    assert verdict(text) == "position"


def test_open_sizes_of_images_are_large_enough() -> None:
    text = """(float[batch, 3, height, width] x) => (float[batch, 2, 1, 1] y) {
        c = Conv <strides = [32, 32], pads = [1, 1, 1, 1]> (x, w) y = GlobalAveragePool(c) }"""
    parsed = model(text)
    weight = np.full((2, 3, 3, 3), 0.5, np.float32)
    parsed.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    assert proof_of(parsed).outputs[0].verdict == "independent"


def test_the_sizes_of_the_batch_can_be_chosen() -> None:

    graph = converted(
        model("(float[batch, 6] x) => (float[batch, 6] y) { m = ReduceMean <axes = [0]> (x) y = Sub(x, m) }")
    )
    for sizes in ((2, 3), (4, 12)):
        assert prove(graph, batch_sizes=sizes).outputs[0].verdict == "mixes"


def test_a_proof_is_the_same_each_time() -> None:
    one, two = proved(CENTRED), proved(CENTRED)
    assert (one.outputs, one.marks, one.relaxed) == (two.outputs, two.marks, two.relaxed)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("reduced", [0, 1])
@pytest.mark.parametrize("sizes", ["t, s", "4, s", "4, 5"])
def test_the_axis_that_the_user_states(sizes: str, reduced: int, axis: int) -> None:
    text = f"(float[{sizes}, 6] x) => (float[{sizes}, 6] y) {{ m = ReduceMean <axes = [{reduced}]> (x) y = Sub(x, m) }}"
    (flow,) = prove(converted(model(text)), batch_axis=axis).outputs
    assert flow.verdict == ("mixes" if axis == reduced else "independent")
