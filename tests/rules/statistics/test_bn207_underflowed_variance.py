import struct

import pytest
from rule_subjects import MEAN, WEIGHT, batch_norm, frozen_norm, only, outcome, paths, ref, subject

from bn_audit.rules.statistics.bn207_underflowed_variance import RULE


def to_half(number):
    return struct.unpack("<e", struct.pack("<e", number))[0]


def test_a_variance_that_half_precision_rounds_to_zero():
    assert to_half(1e-9) == 0.0
    half = batch_norm("bn", running_var=ref([0.5, 1e-9, 0.5, 0.5], "float16"), running_mean=ref(MEAN, "float16"))
    finding = only(RULE, subject(half, batch_norm("fine")))
    assert finding.message == ("1 of 2 batch-norm layers has zero or underflowed variances (float16) in 1 live channel")
    assert finding.evidence["per_layer"] == [{"path": "bn", "channels": 1, "first_channels": [1]}]


def test_a_zero_variance_of_a_constant_channel_with_a_living_scale():
    assert paths(only(RULE, subject(batch_norm("bn", running_var=ref([0.5, 0.0, 0.5, 0.5]))))) == ["bn"]


def test_a_layer_whose_statistics_are_all_zero_never_ran():
    empty = batch_norm("bn", running_mean=ref([0.0] * 4), running_var=ref([0.0] * 4))
    assert only(RULE, subject(empty)).evidence["channels"] == 4


def test_a_layer_without_a_scale_has_only_living_channels():
    plain = batch_norm("bn", weight=None, bias=None, running_var=ref([0.5, 0.0, 0.5, 0.5]))
    assert outcome(RULE, subject(plain))


@pytest.mark.parametrize("gamma", [0.0, 1e-8, -1e-4])
def test_a_dead_channel_whose_scale_decayed_is_silent(gamma):
    dead = batch_norm("bn", weight=ref([1.0, gamma, 0.5, 0.5]), running_var=ref([0.5, 0.0, 0.5, 0.5]))
    assert outcome(RULE, subject(dead)) == []


def test_a_few_channels_that_a_relu_killed_are_silent():
    """Mean and variance are zero while the scale, which took no weight decay, is not."""
    killed = batch_norm("bn", running_mean=ref([0.5, 0.0, 0.0, 1.0]), running_var=ref([0.5, 0.0, 1e-44, 0.5]))
    assert outcome(RULE, subject(killed)) == []


def test_a_zero_initialised_residual_scale_is_silent():
    assert outcome(RULE, subject(batch_norm("bn", weight=ref([0.0] * 4), running_var=ref([0.0] * 4)))) == []


def test_healthy_and_merely_small_variances_in_half_precision_are_silent():
    half = batch_norm("bn", running_var=ref([0.5, 4e-5, 2e-6, 900.0], "float16"), running_mean=ref(MEAN, "float16"))
    assert outcome(RULE, subject(half)) == []
    assert outcome(RULE, subject(batch_norm("bn", running_var=ref([1e-12] * 4)))) == []


def test_odd_tensors_are_silent():
    assert outcome(RULE, subject(batch_norm("short", weight=ref(WEIGHT[:3]), running_var=ref([0.0] * 4)))) == []
    assert outcome(RULE, subject(batch_norm("nan", weight=ref([float("nan")] * 4), running_var=ref([0.0] * 4)))) == []
    assert outcome(RULE, subject(batch_norm("bn"), frozen_norm("frozen", running_var=ref([0.0] * 4)))) == []
