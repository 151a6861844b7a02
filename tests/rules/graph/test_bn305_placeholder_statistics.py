import pytest
from rule_subjects import (
    BIAS,
    MEAN,
    VARIANCE,
    WEIGHT,
    computed_norm,
    fresh,
    graph,
    only,
    onnx_norm,
    outcome,
    paths,
    ref,
    subject,
)

from bn_audit import plugins, policy
from bn_audit.rules.graph.bn305_placeholder_statistics import RULE
from bn_audit.rules.statistics.bn204_untrained_statistics import RULE as BN204
from bn_audit.rules.statistics.bn215_shape_or_order_mismatch import RULE as BN215
from bn_audit.subject.finding import Confidence, Intent, Severity
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin, NormKind

INITIAL = {"running_mean": ref([0.0] * 4), "running_var": ref([1.0] * 4)}
IDENTITY = {"weight": ref([1.0] * 4), "bias": ref([0.0] * 4), **INITIAL}


def test_an_identity_in_a_deployed_graph():
    finding = only(RULE, graph(onnx_norm("a", **IDENTITY), onnx_norm("b", **IDENTITY)))
    assert finding.message == (
        "2 of 2 batch-norm nodes normalise with mean 0 and variance 1 in every channel, which come from no data"
    )
    assert (finding.severity, finding.confidence) == (Severity.WARNING, Confidence.MEDIUM)
    assert paths(finding) == ["a", "b"]


def test_a_legacy_node_beside_real_statistics():
    placeholder = onnx_norm("a", origin=ModeOrigin.ONNX_LEGACY, **IDENTITY)
    assert paths(only(RULE, graph(placeholder, onnx_norm("b", origin=ModeOrigin.ONNX_LEGACY)))) == ["a"]


def test_statistics_of_another_rank():
    shaped = {"running_mean": ref(MEAN, shape=(1, 4, 1, 1)), "running_var": ref(VARIANCE, shape=(1, 4, 1, 1))}
    finding = only(RULE, graph(onnx_norm("a", **shaped), onnx_norm("b")))
    assert "running_mean (1, 4, 1, 1); running_var (1, 4, 1, 1)" in finding.message
    assert finding.evidence["per_layer"] == [
        {"path": "a", "shapes": {"running_mean": [1, 4, 1, 1], "running_var": [1, 4, 1, 1]}}
    ]


@pytest.mark.parametrize(
    "shaped",
    [
        pytest.param({"running_mean": ref([0.0], shape=()), "running_var": ref([1.0], shape=())}, id="scalar"),
        pytest.param({"running_mean": ref([]), "running_var": ref([])}, id="empty"),
        pytest.param({"running_mean": ref([0.0] * 3), "running_var": ref([1.0] * 3)}, id="short"),
    ],
)
def test_another_length_is_reported_once_by_the_rule_about_lengths(shaped):
    audited = graph(onnx_norm("a", **shaped))
    assert outcome(RULE, audited) == []
    assert paths(only(BN215, audited)) == ["a"]


def test_real_and_caffe2_statistics_are_silent():
    near_one = {"running_mean": ref([0.0] * 4), "running_var": ref([1.0 - 1e-5] * 4)}
    assert outcome(RULE, graph(onnx_norm("a"), onnx_norm("b", **near_one))) == []


def test_constant_test_weights_are_silent():
    """The light models that ship with ONNX hold 0.02 everywhere."""
    constant = {role: ref([0.02] * 4) for role in ("weight", "bias", "running_mean", "running_var")}
    audited = graph(onnx_norm("a"), onnx_norm("b", **constant))
    assert {rule.code: found for rule in plugins.rules() if (found := outcome(rule, audited))} == {}


def test_training_form_and_computed_statistics_have_their_own_rules():
    audited = graph(onnx_norm("a", Mode.TRAIN, **IDENTITY), computed_norm("b", **IDENTITY))
    assert outcome(RULE, audited) == []


def test_weight_standardisation_instance_norms_and_modules_are_silent():
    weights = onnx_norm("a", input_origin=InputOrigin.PARAMETERS, **IDENTITY)
    instance = onnx_norm("b", kind=NormKind.INSTANCE_NORM, **IDENTITY)
    disguised = onnx_norm("c", Mode.TRAIN, input_origin=InputOrigin.INSTANCES, uses_batch_statistics=False, **IDENTITY)
    assert outcome(RULE, graph(weights, instance, disguised)) == []
    assert outcome(RULE, subject(fresh("a"))) == []


def test_trained_weights_make_it_untrained_statistics():
    trained = onnx_norm("a", weight=ref(WEIGHT), bias=ref(BIAS), **INITIAL)
    audited = graph(trained, onnx_norm("b"))
    findings = [*RULE.check(audited), *BN204.check(audited)]
    assert {finding.code for finding in findings} == {"BN204", "BN305"}
    assert [finding.code for finding in policy.judge(findings, plugins.rules(), Intent.DEPLOY)] == ["BN204"]
