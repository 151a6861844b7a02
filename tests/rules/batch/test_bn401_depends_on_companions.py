import pytest
from rule_subjects import (
    NOT_CHECKED,
    batch_norm,
    call,
    computed_norm,
    declaring,
    flow,
    followed,
    graph,
    mark,
    only,
    onnx_norm,
    outcome,
    paths,
    subject,
)

from bn_audit import plugins, policy
from bn_audit.rules.batch.bn401_depends_on_companions import RULE
from bn_audit.rules.batch.bn404_batch_baked_in import RULE as BN404
from bn_audit.rules.batch.bn405_dynamic_quantisation_couples import RULE as BN405
from bn_audit.rules.batch.bn407_reduces_over_batch import RULE as BN407
from bn_audit.subject.finding import Confidence, Intent, Severity
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin

SOFTMAX = {"node": "Softmax_7", "path": "head.attention", "why": "Softmax over the batch axis"}


def test_an_operator_over_the_batch_axis():
    audited = followed(
        flows=(flow("mixes", "logits", **SOFTMAX), flow("independent", "features")), marks=(mark("mixes", **SOFTMAX),)
    )
    finding = only(RULE, audited)
    assert finding.message == (
        "output 'logits' depends on the other samples of the batch: Softmax over the batch axis at 'head.attention'"
    )
    assert (finding.severity, finding.confidence) == (Severity.ERROR, Confidence.HIGH)
    (location,) = finding.locations
    assert (location.path, location.node, location.tensor) == ("head.attention", "Softmax_7", "logits")
    assert finding.evidence["cause"] == "BN407"
    assert finding.evidence["outputs"] == [{"output": "logits", **SOFTMAX}]


def test_many_outputs_are_one_finding_that_names_the_first():
    flows = tuple(flow("mixes", f"y{index}", f"MatMul_{index % 2}") for index in range(5))
    finding = only(RULE, followed(flows=(*flows, flow("independent", "z"))))
    assert finding.message == (
        "5 of 6 outputs ('y0', 'y1', 'y2', ...) depend on the other samples of the batch: samples meet at 'MatMul_0' "
        "and 1 more node"
    )
    assert [location.tensor for location in finding.locations] == ["y0", "y1", "y2", "y3", "y4"]
    assert finding.evidence["dependent"] == 5


BARE = {"running_mean": None, "running_var": None}


@pytest.mark.parametrize(
    ("layer", "code"),
    [
        (onnx_norm("bn", Mode.TRAIN), "BN301"),
        (onnx_norm("bn", Mode.TRAIN, ModeOrigin.ONNX_LEGACY), "BN302"),
        (computed_norm("bn"), "BN304"),
        (call("bn", Mode.TRAIN, ModeOrigin.EXPORTED_ARGUMENT), "BN310"),
        (call("bn", Mode.TRAIN, ModeOrigin.EXPORTED_ARGUMENT, **BARE), "BN103"),
    ],
)
def test_a_batch_norm_as_the_cause_is_named_with_the_rule_that_reports_it(layer, code):
    by_node = followed(layer, flows=(flow("mixes", node="node_bn", why="normalises over the batch"),))
    by_path = followed(layer, flows=(flow("mixes", node="ReduceMean_3", path="bn"),))
    for audited in (by_node, by_path):
        finding = only(RULE, audited)
        assert finding.message.endswith(f"(see {code})")
        assert finding.evidence["cause"] == code
        assert code in finding.remedy
        reporting = next(rule for rule in plugins.rules() if rule.code == code)
        both = policy.judge([*RULE.check(audited), *reporting.check(audited)], plugins.rules(), Intent.DEPLOY)
        assert [found.code for found in both] == sorted([code, "BN401"])


def test_a_batch_norm_in_inference_form_is_no_cause():
    finding = only(RULE, followed(onnx_norm("bn"), flows=(flow("mixes", node="Concat_1", path="bn"),)))
    assert "see" not in finding.message


def test_two_kinds_of_cause_are_two_findings():
    flows = (flow("mixes", "y", "node_bn"), flow("mixes", "z", **SOFTMAX))
    findings = outcome(RULE, followed(onnx_norm("bn", Mode.TRAIN), flows=flows))
    assert [(finding.evidence["cause"], paths(finding)) for finding in findings] == [
        ("BN301", [""]),
        ("BN407", ["head.attention"]),
    ]


def test_a_wrong_reshape_keeps_its_code_as_the_cause_and_is_not_reported_twice():
    reshape = {"node": "Reshape_2", "why": "Reshape to (1, -1)"}
    audited = followed(flows=(flow("mixes", **reshape),), marks=(mark("fixed-batch", **reshape),))
    assert only(RULE, audited).evidence["cause"] == "BN404"
    findings = [*RULE.check(audited), *BN404.check(audited)]
    assert [found.code for found in policy.judge(findings, plugins.rules(), Intent.DEPLOY)] == ["BN401"]


def test_coupling_through_dynamic_quantisation_alone_is_left_to_its_own_rule():
    names = ("Quantize_0", "Quantize_1")
    quantising = tuple(mark("quantises", name) for name in names)
    meeting = tuple(mark("mixes", name) for name in names)
    for marks in (quantising, (*meeting, *quantising), (*quantising, mark("fixed-batch", "Reshape_1"))):
        audited = followed(flows=(flow("mixes", node="Quantize_0"),), marks=marks)
        assert outcome(RULE, audited) == []
        assert only(BN405, audited).evidence["outputs"] == ["y"]


def test_quantisation_does_not_hide_what_meets_behind_it():
    audited = followed(
        flows=(flow("mixes", node="Quantize_0"),), marks=(mark("quantises", "Quantize_0"), mark("mixes", **SOFTMAX))
    )
    finding = only(RULE, audited)
    assert finding.confidence is Confidence.MEDIUM
    assert (finding.evidence["cause"], paths(finding)) == ("BN407", ["head.attention"])
    behind = followed(
        onnx_norm("bn", Mode.TRAIN),
        flows=(flow("mixes", node="Quantize_0"),),
        marks=(mark("quantises", "Quantize_0"), mark("mixes", "node_bn")),
    )
    assert only(RULE, behind).evidence["cause"] == "BN301"


def test_every_place_where_samples_meet_is_in_the_evidence():
    marks = (mark("mixes", **SOFTMAX), mark("mixes", "ReduceMax_9"), mark("size", "Div_1"))
    finding = only(RULE, followed(flows=(flow("mixes", **SOFTMAX),), marks=marks))
    assert [row["node"] for row in finding.evidence["marked_nodes"]] == ["Softmax_7", "ReduceMax_9"]
    assert outcome(BN407, followed(flows=(flow("mixes", **SOFTMAX),), marks=marks)) == []


@pytest.mark.parametrize("verdict", ["independent", "position", "size", "undecided"])
def test_other_verdicts_are_silent(verdict):
    assert outcome(RULE, followed(flows=(flow(verdict, node="Add_1"),))) == []


def test_weight_standardisation_is_silent():
    standardised = onnx_norm("conv", Mode.TRAIN, input_origin=InputOrigin.PARAMETERS, uses_batch_statistics=False)
    assert outcome(RULE, followed(standardised, flows=(flow("independent"),))) == []


def test_a_batch_of_exactly_one_has_no_companions():
    flows = (flow("mixes", **SOFTMAX), flow("undecided", "z", "NonZero_1"))
    assert outcome(RULE, followed(flows=flows, batch=1)) == []
    assert list(RULE.open_questions(followed(flows=flows, batch=1))) == []


@pytest.mark.parametrize("batch", [6, "batch", None])
def test_any_other_batch_has(batch):
    assert only(RULE, followed(flows=(flow("mixes", **SOFTMAX),), batch=batch))


def test_one_input_with_more_than_one_row_is_enough():
    graphs = {"": declaring(1, "batch")}
    assert only(RULE, followed(flows=(flow("mixes", **SOFTMAX),), graphs=graphs))


def test_modules_have_no_graph_and_a_graph_may_not_have_been_followed():
    assert outcome(RULE, subject(batch_norm("a", Mode.TRAIN))) == []
    assert outcome(RULE, graph(onnx_norm("a"), graphs={"": declaring("batch")})) == NOT_CHECKED


def test_models_are_judged_apart():
    audited = followed(
        flows=(flow("mixes", "y", model="student", **SOFTMAX), flow("independent", "y", model="teacher")),
        marks=(mark("mixes", "Other_1", model="teacher"),),
    )
    finding = only(RULE, audited)
    assert "output 'y' of 'student'" in finding.message
    assert finding.evidence["outputs_of_the_model"] == 1
    assert finding.evidence["marked_nodes"] == []
