"""Functions, bodies of control flow and the order of nodes in ONNX graphs."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import parser
from onnx_texts import VECTORS, head, parsed, subject_of

from bn_audit.errors import MalformedFileError
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin


def test_batch_norm_in_nested_functions_takes_attributes_and_tensors_of_each_call(tmp_path: Path) -> None:
    subject = parsed(
        f"""{head()}
        g (float[N,3,4,4] x) => (float[N,3,4,4] z) {VECTORS} {{
            y = local.outer <eps = 0.5> (x, s, b, m, v)
            z = local.outer (y, s, b, v, m)
        }}
        <domain: "local", opset_import: ["" : 18, "local" : 1]>
        outer <eps: float = 0.25> (x, s, b, m, v) => (y) {{ y = local.inner <e: float = @eps> (x, s, b, m, v) }}
        <domain: "local", opset_import: ["" : 18]>
        inner <e> (x, s, b, m, v) => (y) {{
            y = BatchNormalization <epsilon: float = @e> (x, s, b, m, v)
        }}""",
        tmp_path,
    )
    assert [norm.eps for norm in subject.norms] == [0.5, 0.25]
    assert [list(norm.running_mean.values()) for norm in subject.norms if norm.running_mean] == [
        [7.0, 8.0, 9.0],
        [10.0, 11.0, 12.0],
    ]
    assert [norm.uses_batch_statistics for norm in subject.norms] == [False, False]
    graph = subject.graphs[""]
    assert [node.op for node in graph.nodes] == ["BatchNormalization", "BatchNormalization"]
    assert graph.nodes[1].inputs[0] == graph.nodes[0].outputs[0] == "y"
    assert graph.functions == {}


def test_function_of_an_older_operator_set_is_judged_by_that(tmp_path: Path) -> None:
    subject = parsed(
        f"""{head(18)}
        g (float[N,3,4,4] x) => (float[N,3,4,4] z) {VECTORS} {{ z = local.old (x, s, b, m, v) }}
        <domain: "local", opset_import: ["" : 9]>
        old (x, s, b, m, v) => (y) {{ y, a1, a2, a3, a4 = BatchNormalization (x, s, b, m, v) }}""",
        tmp_path,
    )
    (norm,) = subject.norms
    assert (norm.mode, norm.mode_origin) == (Mode.TRAIN, ModeOrigin.ONNX_LEGACY)


def test_function_that_gives_back_what_it_was_given(tmp_path: Path) -> None:
    subject = parsed(
        f"""{head()}
        g (float[N,3,4,4] x) => (float[N,3,4,4] z) {VECTORS} {{
            a, t = local.pair (x, m)
            z = BatchNormalization (a, s, b, t, v)
        }}
        <domain: "local", opset_import: ["" : 18]>
        pair (x, m) => (x, m) {{ unused = Relu (x) }}""",
        tmp_path,
    )
    (norm,) = subject.norms
    assert norm.running_mean is not None
    assert list(norm.running_mean.values()) == [7.0, 8.0, 9.0]


@pytest.mark.parametrize("training", [0, 1])
def test_batch_norm_in_both_branches_of_an_if(training: int, tmp_path: Path) -> None:
    outputs = "y, r1, r2" if training else "y"
    others = "w, q1, q2" if training else "w"
    subject = parsed(
        f"""{head()}
        g (float[N,3,4,4] x, bool c) => (float[N,3,4,4] z) {VECTORS} {{
            h = Relu (x)
            z = If (c) <
                then_branch = one () => (y) {{
                    {outputs} = BatchNormalization <training_mode: int = {training}> (h, s, b, m, v)
                }},
                else_branch = two () => (w) {{
                    k = Relu (h)
                    {others} = BatchNormalization <training_mode: int = {training}> (k, s, b, v, m)
                }}
            >
        }}""",
        tmp_path,
    )
    assert len(subject.norms) == 2
    assert {norm.uses_batch_statistics for norm in subject.norms} == {bool(training)}
    assert {norm.input_origin for norm in subject.norms} == {InputOrigin.ACTIVATIONS if training else None}
    assert all(norm.has_running_statistics for norm in subject.norms)


def test_batch_norm_in_a_loop_is_found_and_its_input_is_left_undecided(tmp_path: Path) -> None:
    subject = parsed(
        f"""{head()}
        g (float[N,3,4,4] x, int64 count) => (float[N,3,4,4] z) {VECTORS} {{
            keep = Constant <value = bool {{1}}> ()
            z = Loop (count, keep, x) <
                body = step (int64 i, bool going, float[N,3,4,4] state) => (going_on, next) {{
                    going_on = Identity (going)
                    next, r1, r2 = BatchNormalization <training_mode: int = 1> (state, s, b, m, v)
                }}
            >
        }}""",
        tmp_path,
    )
    (norm,) = subject.norms
    assert (norm.mode, norm.uses_batch_statistics, norm.input_origin) == (Mode.TRAIN, True, InputOrigin.UNDECIDED)


def test_result_of_a_branch_is_not_taken_for_a_constant(tmp_path: Path) -> None:
    subject = parsed(
        f"""{head()}
        g (float[N,3,4,4] x) => (float[N,3,4,4] z) {VECTORS} {{
            c = Constant <value = bool {{1}}> ()
            h = If (c) <
                then_branch = one () => (y) {{ y = Relu (x) }},
                else_branch = two () => (w) {{ w = Identity (x) }}
            >
            z, r1, r2 = BatchNormalization <training_mode: int = 1> (h, s, b, m, v)
        }}""",
        tmp_path,
    )
    (norm,) = subject.norms
    assert norm.uses_batch_statistics is True
    assert norm.input_origin is not InputOrigin.PARAMETERS


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    model = parser.parse_model(
        f"""{head()}
        g (float[N,3,4,4] x) => (float[N,3,4,4] z) {VECTORS} {{
            a = Relu (x)
            y = BatchNormalization (a, s, b, m, v)
            z = Relu (y)
        }}"""
    )
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    assert [node.outputs for node in subject_of(model, tmp_path).graphs[""].nodes] == [("a",), ("y",), ("z",)]


BROKEN = {
    "cycle": ("y = Relu (w) w = Relu (y) z = Add (y, x)", "depends on itself"),
    "missing input": ("y = Relu (nothing) z = Add (y, x)", "reads 'nothing', which nothing makes"),
    "missing output": ("y = Relu (x)", "reads 'z', which nothing makes"),
    "made twice": ("z = Relu (x) z = Neg (x)", "two nodes make the value 'z'"),
    "input made again": ("x = Relu (x) z = Neg (x)", "two nodes make the value 'x'"),
    "arity": ("z = BatchNormalization (x, x)", "BatchNormalization with 2 inputs"),
    "function of itself": ("z = local.f (x)", "calls itself"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_impossible_graph_is_one_clear_error(name: str, tmp_path: Path) -> None:
    nodes, message = BROKEN[name]
    function = '<domain: "local", opset_import: ["" : 18, "local" : 1]> f (x) => (y) { y = local.f (x) }'
    text = f"{head()} g (float[N,3] x) => (float[N,3] z) {{ {nodes} }} {function}"
    with pytest.raises(MalformedFileError, match=message):
        parsed(text, tmp_path)


def test_value_missing_inside_a_body_names_the_node_that_reads_it(tmp_path: Path) -> None:
    text = f"""{head()}
        g (float[N,3] x, bool c) => (float[N,3] z) {{
            z = If (c) <
                then_branch = one () => (y) {{ y = Relu (gone) }}, else_branch = two () => (w) {{ w = Neg (x) }}
            >
        }}"""
    with pytest.raises(MalformedFileError, match=r"'Relu#[0-9]' reads 'gone'"):
        parsed(text, tmp_path)


def test_newer_operator_set_is_judged_by_the_newest_known_and_said(tmp_path: Path) -> None:
    text = f"{head(999)} g (float[N,3,4,4] x) => (float[N,3,4,4] z) {VECTORS} {{ z = BatchNormalization (x,s,b,m,v) }}"
    subject = parsed(text, tmp_path)
    assert subject.norms[0].uses_batch_statistics is False
    assert subject.unread == ("opset 999 is newer than 28, the newest this version knows: judged by that",)


def test_newest_known_operator_set_is_that_of_the_installed_library() -> None:
    from bn_audit.formats._onnx.batch_norms import NEWEST_OPERATOR_SET

    assert onnx.defs.onnx_opset_version() <= NEWEST_OPERATOR_SET
