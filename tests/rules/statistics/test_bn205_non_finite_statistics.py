import math

import pytest
from rule_subjects import batch_norm, frozen_norm, header, instance_norm, only, outcome, ref, subject

from bn_audit.errors import TensorUnavailableError
from bn_audit.rules.statistics.bn205_non_finite_statistics import RULE
from bn_audit.subject.finding import Location

NAN, INF = math.nan, math.inf


def test_every_tensor_concerned_is_named_with_its_figures():
    broken = batch_norm("bn", running_mean=ref([NAN, 0, INF, -INF]), running_var=ref([1, 1, 1, NAN]))
    finding = only(RULE, subject(batch_norm("fine"), broken))
    assert finding.message == "1 of 2 normalisation layers holds NaN or infinity in running_mean, running_var"
    assert finding.locations == (
        Location(path="bn", tensor="running_mean"),
        Location(path="bn", tensor="running_var"),
    )
    assert finding.evidence["tensors"][0] == {
        "path": "bn",
        "tensor": "running_mean",
        "nan": 1,
        "infinite": 2,
        "elements": 4,
        "first_channels": [0, 2, 3],
    }


@pytest.mark.parametrize("role", ["weight", "bias", "running_mean", "running_var"])
@pytest.mark.parametrize("number", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_one_such_value_in_any_tensor_of_any_dtype_fires(role, number, dtype):
    values = [0.5, 0.5, 0.5, number]
    assert only(RULE, subject(batch_norm("bn", **{role: ref(values, dtype)}))).locations[0].tensor == role


def test_opposite_infinities_do_not_cancel():
    assert outcome(RULE, subject(batch_norm("bn", running_mean=ref([INF, -INF, 0, 0]))))


def test_layers_that_ignore_the_mode_are_judged_as_well():
    assert outcome(RULE, subject(frozen_norm("bn", running_var=ref([INF] * 4))))
    assert outcome(RULE, subject(instance_norm("in", weight=ref([NAN] * 4))))


def test_finite_values_are_silent_up_to_the_limits_of_the_dtype():
    largest = batch_norm("bn", running_var=ref([1.7e308] * 4, "float64"), running_mean=ref([-65504.0] * 4, "float16"))
    assert outcome(RULE, subject(largest)) == []


def test_absent_integer_and_empty_tensors_are_silent():
    odd = batch_norm("bn", weight=None, bias=ref([1, 2, 3, 4], "int64"), running_var=ref([]))
    assert outcome(RULE, subject(odd)) == []


def test_what_can_be_read_is_reported_before_what_cannot():
    audited = subject(
        batch_norm("meta", running_var=header("running_var", 4)), batch_norm("bn", running_var=ref([NAN] * 4))
    )
    found = []
    with pytest.raises(TensorUnavailableError, match="meta device"):
        found.extend(RULE.check(audited))
    assert [location.path for finding in found for location in finding.locations] == ["bn"]


def test_uninitialised_layers_have_nothing_to_read():
    assert outcome(RULE, subject(batch_norm("lazy", running_var=header("running_var", 4), uninitialised=True))) == []
