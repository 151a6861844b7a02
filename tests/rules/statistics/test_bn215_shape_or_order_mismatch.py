from rule_subjects import (
    MEAN,
    VARIANCE,
    WEIGHT,
    batch_norm,
    graph,
    header,
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

from bn_audit.rules.statistics.bn215_shape_or_order_mismatch import RULE
from bn_audit.subject.finding import Confidence, Severity
from bn_audit.subject.subject import Facts


def test_a_layer_pruned_in_one_tensor_only():
    finding = only(RULE, state_dict(stored_norm("bn", weight=ref(WEIGHT[:3])), stored_norm("fine")))
    assert finding.message == (
        "1 of 2 normalisation layers has tensors that do not fit each other "
        "(bn: weight 3, bias 4, running_mean 4, running_var 4)"
    )
    assert finding.confidence is Confidence.HIGH


def test_a_number_of_features_that_was_not_updated():
    finding = only(RULE, subject(batch_norm("bn", num_features=8)))
    assert "bn: num_features 8, tensors 4" in finding.message
    assert finding.severity is Severity.WARNING
    affine = instance_norm("in", num_features=8, affine=True)
    assert only(RULE, subject(affine)).severity is Severity.ERROR


def test_one_statistic_without_the_other():
    assert "running_var without running_mean" in only(RULE, subject(batch_norm("bn", running_mean=None))).message


def test_a_mean_and_a_variance_in_each_other_s_place():
    swapped = batch_norm("bn", running_mean=ref(VARIANCE), running_var=ref(MEAN))
    finding = only(RULE, subject(swapped, batch_norm("fine")))
    assert finding.message.endswith("a variance with many negative values beside a mean with none: they look swapped")
    assert finding.confidence is Confidence.MEDIUM
    assert paths(finding) == ["bn"]


def test_lengths_need_no_values():
    assert outcome(RULE, subject(batch_norm("bn", weight=header("weight", 3)), facts=Facts.NONE))


def test_tensors_that_fit_are_silent():
    assert outcome(RULE, subject(batch_norm("a"), batch_norm("b", weight=None, bias=None))) == []


def test_a_broadcast_shape_has_the_same_length():
    broadcast = batch_norm("bn", weight=ref(WEIGHT, shape=(1, 4, 1, 1)), running_mean=ref(MEAN, shape=(1, 4, 1, 1)))
    assert outcome(RULE, subject(broadcast)) == []


def test_means_after_a_relu_beside_one_negative_variance_are_not_swapped():
    cancelled = batch_norm(
        "bn",
        weight=None,
        bias=None,
        running_mean=ref([0.5] * 10),
        running_var=ref([0.5] * 9 + [-1e-7]),
        num_features=10,
    )
    assert outcome(RULE, subject(cancelled)) == []


def test_a_look_alike_with_one_scale_for_all_channels_is_silent():
    scalar = batch_norm("bn", weight=ref([1.0]), bias=ref([0.0]), confidence=Confidence.MEDIUM)
    assert outcome(RULE, subject(scalar)) == []


def test_batch_renorm_keeps_a_deviation_in_place_of_a_variance():
    assert outcome(RULE, subject(batch_norm("bn", running_var=None, type_name="rl.BatchRenorm"))) == []


def test_an_uninitialised_layer_has_no_shapes_yet():
    lazy = batch_norm("bn", num_features=0, weight=header("weight"), uninitialised=True)
    assert outcome(RULE, subject(lazy)) == []


def test_an_onnx_node_may_compute_one_of_its_statistics():
    """Exporters record the class of the module that a node comes from."""
    node = onnx_norm("bn", type_name="torch.nn.modules.batchnorm.BatchNorm2d", running_var=None)
    assert outcome(RULE, graph(node)) == []
    assert outcome(RULE, graph(onnx_norm("bn", running_mean=ref(MEAN[:3]))))


def test_statistics_of_several_splits_belong_to_a_ghost_batch_norm():
    split = {"running_mean": ref(MEAN * 3), "running_var": ref(VARIANCE * 3)}
    assert outcome(RULE, subject(batch_norm("bn", type_name="lightly.SplitBatchNorm", **split))) == []
    assert only(RULE, subject(batch_norm("bn", **split))).severity is Severity.ERROR
    assert only(RULE, state_dict(stored_norm("bn", **split))).severity is Severity.WARNING


def test_an_equivariant_batch_norm_has_a_mean_for_its_scalars():
    scalars = {"running_mean": ref(MEAN[:3]), "bias": ref(MEAN[:3])}
    assert outcome(RULE, subject(batch_norm("bn", type_name="e3nn.nn._batchnorm.BatchNorm", **scalars))) == []
    assert only(RULE, subject(batch_norm("bn", **scalars))).severity is Severity.ERROR
    assert only(RULE, state_dict(stored_norm("bn", **scalars))).severity is Severity.WARNING


def test_other_lengths_in_a_class_of_its_own_kind_are_a_warning():
    pruned = {"running_mean": ref(MEAN[:3]), "running_var": ref(VARIANCE[:3])}
    assert only(RULE, subject(batch_norm("bn", type_name="their.BN", **pruned))).severity is Severity.WARNING
