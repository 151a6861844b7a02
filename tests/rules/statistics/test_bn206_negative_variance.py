import math

from rule_subjects import VARIANCE, batch_norm, instance_norm, only, outcome, paths, ref, subject

from bn_audit.rules.statistics.bn206_negative_variance import RULE


def test_the_lowest_variance_is_named():
    audited = subject(
        batch_norm("a", running_var=ref([0.5, -0.25, 1, 1])),
        batch_norm("b", running_var=ref([-1.5, -0.5, 1, 1])),
        batch_norm("c"),
    )
    finding = only(RULE, audited)
    assert finding.message == "2 of 3 normalisation layers have negative running variances, down to -1.5 (in b)"
    assert finding.evidence["lowest"] == -1.5
    assert [entry["negative_channels"] for entry in finding.evidence["per_layer"]] == [1, 2]
    assert finding.locations[0].tensor == "running_var"


def test_one_tiny_negative_value_is_enough():
    assert paths(only(RULE, subject(batch_norm("a", running_var=ref([1.0, 1.0, -1e-7, 1.0]))))) == ["a"]


def test_a_negative_value_beside_nan_is_still_found():
    assert outcome(RULE, subject(batch_norm("a", running_var=ref([math.nan, -1.0, 1.0, math.nan]))))


def test_a_tracked_instance_norm_is_judged_as_well():
    tracked = instance_norm("in", running_mean=ref([0.5, -0.5]), running_var=ref([-1.0, 1.0]))
    assert outcome(RULE, subject(tracked))


def test_positive_and_zero_variances_are_silent():
    assert outcome(RULE, subject(batch_norm("a"), batch_norm("b", running_var=ref([0.0, -0.0, 1, 1])))) == []


def test_swapped_statistics_are_left_to_their_own_rule():
    swapped = batch_norm("a", running_mean=ref(VARIANCE), running_var=ref([0.5, -0.5, 1.5, -0.25]))
    assert outcome(RULE, subject(swapped)) == []


def test_layers_without_a_variance_or_with_nan_alone_are_silent():
    assert outcome(RULE, subject(batch_norm("a", running_var=None), batch_norm("b"))) == []
    assert outcome(RULE, subject(batch_norm("a", running_var=ref([math.nan] * 4)))) == []
