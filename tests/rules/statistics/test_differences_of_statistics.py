"""Rules about statistics and settings, for an artifact beside its reference."""

from comparisons import artifact, beside, convolution
from rule_subjects import (
    MEAN,
    VARIANCE,
    batch_norm,
    no_statistics,
    only,
    onnx_norm,
    outcome,
    paths,
    ref,
    subject,
)

from bn_audit.rules.statistics.bn201_missing_statistics import RULE as BN201
from bn_audit.rules.statistics.bn208_eps_mismatch import RULE as BN208
from bn_audit.rules.statistics.bn209_suspicious_momentum import RULE as BN209
from bn_audit.rules.statistics.bn210_stale_average_statistics import RULE as BN210
from bn_audit.rules.statistics.bn212_statistics_differ_only import RULE as BN212
from bn_audit.rules.statistics.bn215_shape_or_order_mismatch import RULE as BN215
from bn_audit.subject.finding import Severity

MOVED = ref((0.25, -0.5, 1.5, 0.875))
WIDER = ref((0.5, 1.25, 0.06, 2.0))
SCALED = ref((1.0, 0.75, 0.5, 1.5))


def test_a_reference_proves_that_statistics_are_missing():
    finding = only(BN201, beside(artifact(), artifact(no_statistics("bn"))))
    assert finding.message == (
        "1 batch-norm layer without running_mean and running_var beside its affine parameters "
        "(bn: reference.pt has them)"
    )
    assert (finding.severity, paths(finding)) == (Severity.ERROR, ["bn"])


def test_two_layers_without_statistics_are_one_finding():
    whole = artifact(batch_norm("a"), batch_norm("b"))
    assert paths(only(BN201, beside(whole, artifact(no_statistics("a"), no_statistics("b"))))) == ["a", "b"]


def test_statistics_on_both_sides_or_on_neither_are_silent():
    assert outcome(BN201, beside(artifact(), artifact())) == []
    assert outcome(BN201, beside(artifact(no_statistics("bn")), artifact(no_statistics("bn")))) == []


def test_another_eps_is_an_error():
    finding = only(BN208, beside(artifact(), artifact(batch_norm(eps=1e-3))))
    assert finding.message == (
        "1 of 1 batch-norm layer has another eps than reference.pt "
        "(bn: 0.001, the reference has 1e-05; tolerance 1e-06)"
    )
    assert finding.severity is Severity.ERROR


def test_another_eps_in_two_of_three_layers_names_both():
    reference = artifact(*(batch_norm(path) for path in "abc"))
    target = artifact(batch_norm("a"), batch_norm("b", eps=1e-3), batch_norm("c", eps=1e-4))
    assert paths(only(BN208, beside(reference, target))) == ["b", "c"]


def test_an_eps_that_is_rounded_to_float32_or_not_recorded_is_silent():
    rounded = 9.999999747378752e-06
    assert outcome(BN208, beside(artifact(), artifact(batch_norm(eps=rounded)))) == []
    assert outcome(BN208, beside(artifact(batch_norm(eps=None)), artifact())) == []


def test_another_momentum_is_a_warning():
    finding = only(BN209, beside(artifact(), artifact(batch_norm(momentum=0.03))))
    assert "another momentum than reference.pt (bn: 0.03, the reference has 0.1" in finding.message
    assert finding.severity is Severity.WARNING


def test_another_momentum_in_a_graph_for_inference_is_a_note():
    finding = only(BN209, beside(artifact(), artifact(onnx_norm("bn", momentum=0.03))))
    assert finding.severity is Severity.NOTE


def test_the_same_momentum_or_none_is_silent():
    almost = 1 - 0.8999999761581421
    assert outcome(BN209, beside(artifact(), artifact(onnx_norm("bn", momentum=almost)))) == []
    assert outcome(BN209, beside(artifact(), artifact(batch_norm(momentum=None, cumulative=True)))) == []


def test_an_average_with_the_statistics_of_the_live_model():
    average = artifact(batch_norm(weight=SCALED), averaged=True)
    finding = only(BN210, beside(artifact(), average))
    assert "exactly the statistics of reference.pt although the averaged weights differ" in finding.message
    live = artifact(batch_norm(weight=SCALED))
    assert paths(only(BN210, beside(artifact(averaged=True), live))) == ["bn"]


def test_averaged_statistics_and_two_live_models_are_silent():
    average = artifact(batch_norm(weight=SCALED, running_mean=MOVED), averaged=True)
    assert outcome(BN210, beside(artifact(), average)) == []
    assert outcome(BN210, beside(artifact(), artifact(batch_norm(weight=SCALED)))) == []


def test_statistics_that_differ_alone_name_layer_and_channel():
    finding = only(BN212, beside(artifact(), artifact(batch_norm(running_mean=MOVED))))
    assert finding.message == (
        "1 of 1 batch-norm layer has other statistics than reference.pt although the weights are equal "
        "(bn: the mean by 0.707 standard deviations in channel 3, -0.125 to 0.875; tolerance 1e-06)"
    )
    assert finding.evidence["largest"][0]["mean"]["channel"] == 3


def test_a_variance_alone_is_found_by_its_logarithm():
    finding = only(BN212, beside(artifact(), artifact(batch_norm(running_var=WIDER))))
    assert "the variance by 0.693 in its logarithm in channel 2, 0.03 to 0.06" in finding.message


def test_statistics_of_other_weights_and_rounded_ones_are_silent():
    both = artifact(batch_norm(running_mean=MOVED, weight=SCALED))
    assert outcome(BN212, beside(artifact(), both)) == []
    rounded = artifact(batch_norm(running_mean=ref(MEAN, "float16"), running_var=ref(VARIANCE, "float16")))
    assert outcome(BN212, beside(artifact(), rounded)) == []


def test_other_weights_that_were_read_count_as_weights():
    target = artifact(batch_norm(running_mean=MOVED), others=[convolution([2.0] * 8)])
    reference = artifact(others=[convolution()])
    assert outcome(BN212, beside(reference, target, everything=True)) == []
    assert only(BN212, beside(reference, target))


def test_mean_and_variance_in_each_other_s_place():
    positive = batch_norm(running_mean=ref((0.25, 0.5, 1.5, 0.125)))
    swapped = batch_norm(running_mean=ref(VARIANCE), running_var=ref((0.25, 0.5, 1.5, 0.125)))
    finding = only(BN215, beside(artifact(positive), artifact(swapped)))
    assert finding.message == "1 batch-norm layer has the variance of reference.pt as mean and its mean as variance"
    assert finding.severity is Severity.ERROR


def test_a_swap_that_the_signs_show_too_is_one_finding():
    swapped = batch_norm(running_mean=ref(VARIANCE), running_var=ref(MEAN))
    assert paths(only(BN215, beside(artifact(), artifact(swapped)))) == ["bn"]


def test_equal_layers_and_equal_mean_and_variance_are_silent():
    assert outcome(BN215, beside(artifact(), artifact())) == []
    same = batch_norm(running_mean=ref(VARIANCE), running_var=ref(VARIANCE))
    assert outcome(BN215, beside(artifact(same), artifact(same))) == []


def test_nothing_is_said_without_a_reference():
    for rule in (BN201, BN210, BN212):
        assert outcome(rule, subject(batch_norm())) == []
