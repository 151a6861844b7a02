from rule_subjects import batch_norm, graph, instance_norm, only, onnx_norm, outcome, paths, subject

from bn_audit.rules.graph.bn303_onnx_arity_contradiction import RULE
from bn_audit.subject.finding import Severity
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin

ONE_OUTPUT = "training_mode 1, which takes 3 outputs, beside 1"


def test_training_with_the_outputs_of_inference():
    finding = only(RULE, graph(onnx_norm("a", Mode.TRAIN, contradiction=ONE_OUTPUT), onnx_norm("b")))
    assert finding.message == f"1 of 2 normalisation nodes contradicts the stated mode (a: {ONE_OUTPUT})"
    assert paths(finding) == ["a"]
    assert finding.severity is Severity.ERROR


def test_inference_with_the_outputs_of_training_and_legacy_nodes():
    three = "training_mode 0, which takes 1 output, beside 3"
    legacy = onnx_norm("b", origin=ModeOrigin.ONNX_LEGACY, contradiction="3 outputs, where 1 or 5 are known")
    finding = only(RULE, graph(onnx_norm("a", contradiction=three), legacy))
    assert paths(finding) == ["a", "b"]
    assert [row["problem"] for row in finding.evidence["per_node"]] == [three, legacy.contradiction]


def test_a_model_that_a_runtime_refuses_is_refused_for_weights_too():
    standardised = onnx_norm("a", Mode.TRAIN, input_origin=InputOrigin.PARAMETERS, contradiction=ONE_OUTPUT)
    assert only(RULE, graph(standardised))


def test_nodes_that_agree_with_themselves_are_silent():
    assert outcome(RULE, graph(onnx_norm("a"), onnx_norm("b", Mode.TRAIN))) == []
    assert outcome(RULE, graph(onnx_norm("a", origin=ModeOrigin.ONNX_LEGACY))) == []


def test_modules_have_no_outputs_to_count():
    assert outcome(RULE, subject(batch_norm("a", Mode.TRAIN), instance_norm("b"))) == []
