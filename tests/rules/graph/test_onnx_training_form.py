"""BN301, BN302 and BN304 ask one question of three ways in which an ONNX graph uses the batch's statistics."""

import pytest
from rule_subjects import (
    batch_norm,
    call,
    computed_norm,
    declaring,
    flow,
    followed,
    graph,
    instance_norm,
    mark,
    only,
    onnx_norm,
    outcome,
    paths,
    state_dict,
    stored_norm,
    subject,
)

from bn_audit import plugins, policy
from bn_audit.rules.graph import (
    bn301_onnx_training_mode,
    bn302_onnx_legacy_training_mode,
    bn304_statistics_computed_in_graph,
)
from bn_audit.rules.mode import bn103_no_running_statistics
from bn_audit.subject.finding import Confidence, Intent, Severity
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin

BN301, BN302, BN304 = (
    bn301_onnx_training_mode.RULE,
    bn302_onnx_legacy_training_mode.RULE,
    bn304_statistics_computed_in_graph.RULE,
)
BN103 = bn103_no_running_statistics.RULE


def training(path, origin, **changes):
    if origin is ModeOrigin.ONNX_COMPUTED:
        return computed_norm(path, **changes)
    return onnx_norm(path, Mode.TRAIN, origin, **changes)


CASES = [
    pytest.param(BN301, ModeOrigin.ONNX_ATTRIBUTE, id="attribute"),
    pytest.param(BN302, ModeOrigin.ONNX_LEGACY, id="legacy"),
    pytest.param(BN304, ModeOrigin.ONNX_COMPUTED, id="computed"),
]


@pytest.mark.parametrize(("rule", "origin"), CASES)
def test_layers_that_use_the_batch_are_one_finding(rule, origin):
    audited = graph(training("a", origin), onnx_norm("b"), training("c", origin))
    finding = only(rule, audited)
    assert finding.message.startswith("2 of 3 batch-norm ")
    assert paths(finding) == ["a", "c"]
    assert finding.locations[0].node == "node_a"
    assert (finding.severity, finding.confidence) == (Severity.ERROR, Confidence.HIGH)
    assert rule.overrides == {}


@pytest.mark.parametrize(("rule", "origin"), CASES)
def test_an_undecided_input_is_a_finding_of_its_own_with_medium_confidence(rule, origin):
    audited = graph(training("a", origin, input_origin=InputOrigin.UNDECIDED), training("b", origin))
    assert [(paths(finding), finding.confidence) for finding in outcome(rule, audited)] == [
        (["b"], Confidence.HIGH),
        (["a"], Confidence.MEDIUM),
    ]


@pytest.mark.parametrize(("rule", "origin"), CASES)
def test_weight_standardisation_and_disguised_instance_norm_are_silent(rule, origin):
    parameters = training("a", origin, input_origin=InputOrigin.PARAMETERS)
    instances = training("b", origin, input_origin=InputOrigin.INSTANCES)
    unused = training("c", origin, uses_batch_statistics=False)
    assert outcome(rule, graph(parameters, instances, unused)) == []


@pytest.mark.parametrize(("rule", "origin"), CASES)
def test_inference_form_is_silent(rule, origin):
    assert outcome(rule, graph(onnx_norm("a"), onnx_norm("b", origin=ModeOrigin.ONNX_LEGACY))) == []


@pytest.mark.parametrize(("rule", "origin"), CASES)
@pytest.mark.parametrize("input_origin", [None, InputOrigin.UNDECIDED, InputOrigin.ACTIVATIONS])
def test_the_proof_acquits_where_no_samples_meet(rule, origin, input_origin):
    layer = training("a", origin, input_origin=input_origin)
    marks = (mark("fixed-batch", "node_a", path="a"), mark("mixes", "node_a", path="a", model="other"))
    assert outcome(rule, followed(layer, flows=(flow("independent", "y"), flow("independent", "z")), marks=marks)) == []


@pytest.mark.parametrize(("rule", "origin"), CASES)
@pytest.mark.parametrize(
    ("flows", "marks"),
    [
        pytest.param((flow("mixes", node="node_a"),), (), id="mixes"),
        pytest.param((flow("independent"), flow("undecided", "z", node="NonZero_3")), (), id="undecided"),
        pytest.param((flow("independent"),), (mark("mixes", "node_a"),), id="effect lost by node"),
        pytest.param((flow("independent"),), (mark("mixes", "ReduceMean_0", path="a"),), id="effect lost by path"),
        pytest.param((), (), id="no outputs"),
        pytest.param((flow("independent", model="other"),), (), id="another model"),
    ],
)
def test_the_proof_does_not_acquit_otherwise(rule, origin, flows, marks):
    assert only(rule, followed(training("a", origin), flows=flows, marks=marks))


@pytest.mark.parametrize(("rule", "origin"), CASES)
def test_a_proof_that_was_not_asked_for_acquits_nobody(rule, origin):
    assert only(rule, graph(training("a", origin), batch_flow=(flow("independent"),)))


@pytest.mark.parametrize(("rule", "origin"), CASES)
def test_other_artifacts_give_no_line_at_all(rule, origin):
    assert outcome(rule, state_dict(stored_norm())) == []
    assert outcome(rule, subject(batch_norm("bn", Mode.TRAIN), instance_norm("in", Mode.TRAIN))) == []
    assert outcome(rule, graph(call("bn", Mode.TRAIN, ModeOrigin.EXPORTED_ARGUMENT))) == []


def test_exactly_one_rule_speaks_for_each_layer():
    """The cause of a layer without stored statistics is that the graph computes them, not that none are stored."""
    layers = (
        onnx_norm("attribute", Mode.TRAIN),
        onnx_norm("given", Mode.TRAIN, running_mean=None, running_var=None),
        onnx_norm("legacy", Mode.TRAIN, ModeOrigin.ONNX_LEGACY),
        computed_norm("computed"),
        computed_norm("computed and training", Mode.TRAIN),
    )
    found = {rule.code: paths(only(rule, graph(*layers))) for rule in (BN301, BN302, BN304)}
    assert found == {
        "BN301": ["attribute", "given"],
        "BN302": ["legacy"],
        "BN304": ["computed", "computed and training"],
    }
    assert outcome(BN103, graph(*layers)) == []


def test_the_same_layer_in_an_exported_program_is_still_without_statistics():
    exported = call("a", Mode.TRAIN, ModeOrigin.EXPORTED_ARGUMENT, running_mean=None, running_var=None)
    assert paths(only(BN103, graph(exported))) == ["a"]
    assert outcome(BN103, followed(exported, flows=(flow("independent"),))) == []


def test_the_proof_acquits_calls_of_exported_programs_too():
    from bn_audit.rules.graph.bn310_exported_program_training import RULE

    undecided = call("a", Mode.TRAIN, ModeOrigin.EXPORTED_ARGUMENT, input_origin=InputOrigin.UNDECIDED)
    assert only(RULE, followed(undecided, flows=(flow("mixes", node="node_a"),)))
    assert outcome(RULE, followed(undecided, flows=(flow("independent"),))) == []


@pytest.mark.parametrize(
    ("opset", "reason"),
    [
        (6, "is_test not set, which means training in operator set 6"),
        (7, "more than one output, which means training in operator set 7"),
        (13, "more than one output, which means training in operator set 13"),
        (None, "by the rules of its operator set (is_test absent, or more than one output)"),
    ],
)
def test_the_rule_of_the_operator_set_is_named(opset, reason):
    graphs = {"": declaring(1, versions={"": opset} if opset else None)}
    finding = only(BN302, graph(onnx_norm("a", Mode.TRAIN, ModeOrigin.ONNX_LEGACY), graphs=graphs))
    assert reason in finding.message
    assert finding.evidence["opset"] == opset


def test_computed_statistics_replace_what_else_is_said_about_the_layer():
    from bn_audit.rules.batch.bn407_reduces_over_batch import RULE as BN407

    layer = computed_norm("block.norm")
    same = next(BN304.check(graph(layer)))
    others = [
        BN301.finding("also in training form", locations=same.locations),
        BN407.finding("a node of the layer", locations=same.locations),
        BN407.finding("a node elsewhere", locations=(onnx_norm("head").location,)),
    ]
    kept = policy.judge([same, *others], plugins.rules(), Intent.DEPLOY)
    assert [finding.message for finding in kept] == [same.message, "a node elsewhere"]
