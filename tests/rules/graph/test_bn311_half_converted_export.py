from rule_subjects import batch_norm, call, computed_norm, dropout, graph, only, onnx_norm, outcome, paths, random_call

from bn_audit.rules.graph.bn311_half_converted_export import RULE
from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin

EXPORTED = ModeOrigin.EXPORTED_ARGUMENT


def test_inference_batch_norm_beside_live_dropout():
    audited = graph(
        call("a", Mode.EVAL, EXPORTED),
        call("b", Mode.EVAL, EXPORTED),
        random_calls=(dropout("drop1"), dropout("drop2", probability=0.1)),
    )
    finding = only(RULE, audited)
    assert finding.message == (
        "2 live dropout calls beside 2 batch norms in inference form: exported from a model in training mode"
    )
    assert paths(finding) == ["drop1", "drop2"]
    assert finding.evidence["probabilities"] == [0.1, 0.5]


def test_a_traced_graph_is_judged_the_same():
    audited = graph(call("a", Mode.EVAL, ModeOrigin.TRACED_CONSTANT), random_calls=(dropout(probability=None),))
    assert only(RULE, audited).confidence is Confidence.MEDIUM


def test_dropout_that_is_off_or_drops_nothing_is_silent():
    for harmless in (dropout(live=False), dropout(live=None), dropout(probability=0.0)):
        assert outcome(RULE, graph(call("a", Mode.EVAL, EXPORTED), random_calls=(harmless,))) == []


def test_a_graph_in_training_form_throughout_is_not_half_converted():
    audited = graph(call("a", Mode.TRAIN, EXPORTED), call("b", Mode.EVAL, EXPORTED), random_calls=(dropout(),))
    assert outcome(RULE, audited) == []


def test_a_sampler_without_dropout_and_a_graph_without_batch_norm_are_silent():
    assert outcome(RULE, graph(call("a", Mode.EVAL, EXPORTED), random_calls=(random_call(),))) == []
    assert outcome(RULE, graph(random_calls=(dropout(),))) == []


def test_a_scripted_module_is_not_an_export():
    scripted = batch_norm("a", mode_origin=ModeOrigin.SCRIPTED_FLAG)
    assert outcome(RULE, graph(scripted, random_calls=(dropout(),))) == []


def test_dropout_of_another_model_is_silent():
    other = call("b", Mode.EVAL, EXPORTED, model="b")
    assert outcome(RULE, graph(other, random_calls=(dropout(model="a"),))) == []


def test_replaces_the_finding_about_dropout_alone():
    assert RULE.supersedes == ("BN504",)


def test_an_onnx_graph_is_judged_the_same():
    for origin in (ModeOrigin.ONNX_ATTRIBUTE, ModeOrigin.ONNX_LEGACY):
        audited = graph(onnx_norm("a", origin=origin), random_calls=(dropout("drop"),))
        assert paths(only(RULE, audited)) == ["drop"]
    for training in (onnx_norm("b", Mode.TRAIN), computed_norm("b")):
        assert outcome(RULE, graph(onnx_norm("a"), training, random_calls=(dropout(),))) == []


def test_weight_standardisation_says_nothing_about_the_mode():
    weights = call("conv", Mode.TRAIN, EXPORTED, input_origin=InputOrigin.PARAMETERS, uses_batch_statistics=False)
    assert only(RULE, graph(weights, call("a", Mode.EVAL, EXPORTED), random_calls=(dropout(),)))
    assert outcome(RULE, graph(weights, random_calls=(dropout(),))) == []
