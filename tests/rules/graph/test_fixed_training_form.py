"""BN308 and BN310 ask the same question of two formats."""

import pytest
from rule_subjects import batch_norm, call, graph, only, outcome, paths, state_dict, stored_norm, subject

from bn_audit.rules.graph import bn308_torchscript_baked_training, bn310_exported_program_training
from bn_audit.subject.finding import Confidence, Severity
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin, NormKind

CASES = [
    pytest.param(bn308_torchscript_baked_training.RULE, ModeOrigin.TRACED_CONSTANT, id="traced"),
    pytest.param(bn310_exported_program_training.RULE, ModeOrigin.EXPORTED_ARGUMENT, id="exported"),
]


@pytest.mark.parametrize(("rule", "origin"), CASES)
def test_calls_in_training_form_are_one_finding(rule, origin):
    audited = graph(call("a", Mode.TRAIN, origin), call("b", Mode.EVAL, origin), call("c", Mode.TRAIN, origin))
    finding = only(rule, audited)
    assert finding.message.startswith("2 of 3 batch-norm calls are ")
    assert paths(finding) == ["a", "c"]
    assert finding.locations[0].node == "node_a"
    assert (finding.severity, finding.confidence) == (Severity.ERROR, Confidence.HIGH)


@pytest.mark.parametrize(("rule", "origin"), CASES)
def test_an_undecided_input_is_a_finding_of_its_own_with_medium_confidence(rule, origin):
    undecided = call("a", Mode.TRAIN, origin, input_origin=InputOrigin.UNDECIDED)
    findings = outcome(rule, graph(undecided, call("b", Mode.TRAIN, origin)))
    assert [(paths(finding), finding.confidence) for finding in findings] == [
        (["b"], Confidence.HIGH),
        (["a"], Confidence.MEDIUM),
    ]


@pytest.mark.parametrize(("rule", "origin"), CASES)
def test_an_exporter_that_says_nothing_about_the_input_is_believed(rule, origin):
    assert only(rule, graph(call("a", Mode.TRAIN, origin, input_origin=None))).confidence is Confidence.HIGH


@pytest.mark.parametrize(("rule", "origin"), CASES)
def test_inference_form_is_silent(rule, origin):
    assert outcome(rule, graph(call("a", Mode.EVAL, origin))) == []


@pytest.mark.parametrize(("rule", "origin"), CASES)
def test_weight_standardisation_and_disguised_instance_norm_are_silent(rule, origin):
    parameters = call("a", Mode.TRAIN, origin, input_origin=InputOrigin.PARAMETERS)
    instances = call("b", Mode.TRAIN, origin, input_origin=InputOrigin.INSTANCES)
    instance = call("c", Mode.TRAIN, origin, kind=NormKind.INSTANCE_NORM)
    assert outcome(rule, graph(parameters, instances, instance)) == []


@pytest.mark.parametrize(("rule", "origin"), CASES)
def test_without_statistics_an_export_in_evaluation_mode_would_not_help(rule, origin):
    assert outcome(rule, graph(call("a", Mode.TRAIN, origin, running_mean=None, running_var=None))) == []


@pytest.mark.parametrize(("rule", "origin"), CASES)
def test_other_artifacts_give_no_line_at_all(rule, origin):
    other = {ModeOrigin.TRACED_CONSTANT, ModeOrigin.EXPORTED_ARGUMENT, ModeOrigin.SCRIPTED_FLAG} - {origin}
    assert outcome(rule, state_dict(stored_norm())) == []
    assert outcome(rule, subject(batch_norm("bn", Mode.TRAIN))) == []
    assert outcome(rule, graph(*(call("bn", Mode.TRAIN, name) for name in other))) == []


@pytest.mark.parametrize(("rule", "origin"), CASES)
def test_no_intent_makes_a_fixed_training_form_harmless(rule, origin):
    assert rule.overrides == {}
