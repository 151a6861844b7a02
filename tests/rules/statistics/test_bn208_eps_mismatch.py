import struct

import pytest
from rule_subjects import NOT_CHECKED, batch_norm, only, outcome, paths, ref, state_dict, stored_norm, subject

from bn_audit.rules.statistics.bn208_eps_mismatch import RULE, rounded_from
from bn_audit.subject.finding import Confidence


def to_half(number):
    return struct.unpack("<e", struct.pack("<e", number))[0]


def to_single(number):
    return struct.unpack("<f", struct.pack("<f", number))[0]


def test_an_eps_that_went_through_float16():
    assert to_half(1e-5) == 1.0013580322265625e-05
    finding = only(RULE, subject(batch_norm("bn", eps=1.0013580322265625e-05)))
    assert "eps 1.0013580322265625e-05, which is 1e-05 rounded to float16" in finding.message


def test_an_eps_that_went_through_bfloat16():
    assert "rounded to bfloat16" in only(RULE, subject(batch_norm("bn", eps=0.00099945068359375))).message


def test_an_eps_above_most_variances():
    small = batch_norm("bn", eps=1e-3, running_var=ref([1e-5, 2e-5, 1e-4, 0.5]))
    finding = only(RULE, subject(small, batch_norm("fine", eps=1e-3)))
    assert finding.message == (
        "1 of 2 batch-norm layers has an eps above the variance of most live channels: eps up to 0.001, "
        "variances down to 1e-05"
    )
    assert finding.confidence is Confidence.MEDIUM


def test_no_eps_at_all_beside_a_variance_of_zero():
    finding = only(RULE, subject(batch_norm("bn", eps=0.0, running_var=ref([0.0, 1.0, 1.0, 1.0]))))
    assert "eps 0 beside variances of 0" in finding.message


@pytest.mark.parametrize("eps", [1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-12, 2e-5, 1.2e-5, 5e-4, 0.1])
def test_decimals_are_chosen_in_float64_and_float32(eps):
    assert rounded_from(eps) is None
    assert rounded_from(to_single(eps)) is None


@pytest.mark.parametrize("eps", [1e-3, 1e-4, 1e-5, 1e-6, 2e-5, 5e-4, 0.1])
def test_decimals_that_float16_rounded_are_recognised(eps):
    assert rounded_from(to_half(eps)) == f"{eps:g} rounded to float16"


@pytest.mark.parametrize("eps", [2.0**-10, 2.0**-23, 0.0, -1e-5, 1.0, 3.5, 1e300, float("nan"), float("inf"), 5e-324])
def test_powers_of_two_and_nonsense_are_no_rounding(eps):
    assert rounded_from(eps) is None


def test_a_few_small_channels_under_the_eps_of_tensorflow_are_silent():
    usual = batch_norm("bn", eps=1e-3, running_var=ref([1e-4, 5e-4, 0.2, 0.5]))
    assert outcome(RULE, subject(usual)) == []


def test_dead_channels_do_not_count():
    dead = batch_norm(
        "bn", weight=ref([1.0, 1e-6, 1e-6, 0.0]), running_var=ref([0.5, 1e-9, 1e-9, 1e-9]), running_mean=ref([0.0] * 4)
    )
    assert outcome(RULE, subject(dead)) == []
    assert outcome(RULE, subject(batch_norm("bn", running_var=ref([0.5, 0.0, 0.0, 0.0])))) == []


def test_a_state_dict_records_no_eps():
    assert outcome(RULE, state_dict(stored_norm())) == NOT_CHECKED


def test_layers_without_eps_or_statistics_are_silent():
    assert outcome(RULE, subject(batch_norm("a", eps=None, running_var=ref([1e-9] * 4)))) == []
    assert paths(only(RULE, subject(batch_norm("a"), batch_norm("b", running_var=ref([1e-9] * 4))))) == ["b"]
