import pytest
from rule_subjects import (
    BIAS,
    WEIGHT,
    batch_norm,
    counter,
    fresh,
    frozen_norm,
    graph,
    instance_norm,
    only,
    onnx_norm,
    outcome,
    paths,
    ref,
    state_dict,
    stored_norm,
    subject,
)

from bn_audit.rules.statistics.bn204_untrained_statistics import RULE
from bn_audit.subject.finding import Confidence, Severity
from bn_audit.subject.subject import Form, Model

INITIAL = {"running_mean": ref([0.0] * 4), "running_var": ref([1.0] * 4)}


def test_trained_parameters_over_initial_statistics():
    finding = only(RULE, subject(batch_norm("a", **INITIAL), batch_norm("b", **INITIAL)))
    assert finding.message == (
        "2 of 2 batch-norm layers have the initial statistics mean 0 and variance 1 beside their own trained parameters"
    )
    assert finding.severity is Severity.WARNING
    assert finding.confidence is Confidence.HIGH


def test_a_fresh_layer_beside_trained_ones_is_less_certain():
    finding = only(RULE, subject(batch_norm("a"), fresh("head")))
    assert paths(finding) == ["head"]
    assert finding.confidence is Confidence.MEDIUM
    assert finding.evidence["never_counted_a_batch"] == 1


def test_a_counter_without_moved_statistics_is_proof():
    assert paths(only(RULE, subject(fresh("bn", num_batches_tracked=counter(500))))) == ["bn"]


def test_a_file_without_counters_is_judged_by_its_bias():
    candle = stored_norm("bn", num_batches_tracked=None, **INITIAL)
    assert paths(only(RULE, state_dict(candle))) == ["bn"]


def test_half_precision_keeps_zero_and_one_exact():
    half = {"running_mean": ref([0.0] * 4, "float16"), "running_var": ref([1.0] * 4, "float16")}
    assert outcome(RULE, subject(batch_norm("bn", **half)))


def test_a_wholly_fresh_model_is_not_a_mistake_of_its_statistics():
    assert outcome(RULE, subject(fresh("a"), fresh("b"), fresh("c", weight=None, bias=None))) == []


def test_a_fresh_generator_with_random_scales_is_fresh_too():
    """DCGAN draws the scales from N(1, 0.02) and leaves the shifts at 0."""
    assert outcome(RULE, subject(fresh("a", weight=ref(WEIGHT)), fresh("b", weight=ref(WEIGHT)))) == []


def test_frozen_batch_norm_with_caffe2_statistics_is_silent():
    assert outcome(RULE, subject(batch_norm("bn"), frozen_norm("frozen"))) == []
    near_one = {"running_mean": ref([0.0] * 4), "running_var": ref([1.0 - 1e-5] * 4), "num_batches_tracked": None}
    assert outcome(RULE, state_dict(stored_norm("bn1", **near_one), stored_norm("bn2", **near_one))) == []


def test_instance_norm_and_moved_statistics_are_silent():
    tracked = instance_norm("in", running_mean=ref([0.0] * 4), running_var=ref([1.0] * 4), bias=ref(BIAS))
    assert outcome(RULE, subject(batch_norm("bn"), tracked)) == []


def test_one_channel_that_moved_is_enough_to_be_silent():
    moved = batch_norm("bn", running_mean=ref([0.0, 0.0, 1e-7, 0.0]), running_var=ref([1.0] * 4))
    assert outcome(RULE, subject(moved)) == []


def test_an_average_beside_its_live_model_is_left_to_its_own_rule():
    models = (Model(route="model", form=Form.MODULE), Model(route="ema", form=Form.MODULE, averaged=True))
    norms = (batch_norm("bn", model="model"), batch_norm("bn", model="ema", **INITIAL))
    assert outcome(RULE, subject(*norms, models=models)) == []
    alone = subject(norms[1], models=models[1:])
    assert outcome(RULE, alone) != []


@pytest.mark.parametrize("tensor", ["running_mean", "running_var"])
def test_a_layer_with_one_statistic_is_not_judged(tensor):
    assert outcome(RULE, subject(batch_norm("a"), fresh("b", **{tensor: None}))) == []


def test_replaces_the_placeholder_rule_of_graphs():
    assert RULE.supersedes == ("BN305",)


def test_one_number_for_all_channels_is_nobodys_training():
    """Test graphs, such as the light models that ship with ONNX, hold one number in every tensor."""
    constant = {role: ref([0.02] * 4) for role in ("weight", "bias")}
    assert outcome(RULE, graph(onnx_norm("a", **constant, **INITIAL), onnx_norm("b", **constant, **INITIAL))) == []
    filled = {"running_mean": ref([0.02] * 4), "running_var": ref([0.02] * 4)}
    assert outcome(RULE, graph(onnx_norm("a", **constant, **INITIAL), onnx_norm("b", **constant, **filled))) == []


def test_a_single_channel_that_moved_is_training():
    single = {"running_mean": ref([0.0]), "running_var": ref([1.0]), "num_features": 1}
    assert outcome(RULE, graph(onnx_norm("a", weight=ref([1.0]), bias=ref([0.3]), **single)))
    assert outcome(RULE, graph(onnx_norm("a", weight=ref([1.0]), bias=ref([0.0]), **single))) == []


def test_an_onnx_graph_with_trained_weights():
    assert paths(only(RULE, graph(onnx_norm("a", **INITIAL), onnx_norm("b")))) == ["a"]
