from loadings import loaded, without_loading
from rule_subjects import only, outcome

from bn_audit.rules.loading.bn223_tensor_mismatch import RULE
from bn_audit.subject.finding import Severity

SHAPE = "shape (6,) in the file, (8,) in the model"
HALF = "dtype float16 in the file, float32 in the model"


def test_another_number_of_channels():
    finding = only(RULE, loaded(mismatched=(("bn.weight", SHAPE), ("bn.running_var", SHAPE))))
    assert finding.message == f"2 tensors in w.pt do not fit the model (bn.weight: {SHAPE})"
    assert finding.severity is Severity.ERROR


def test_statistics_that_are_only_cast_to_half_are_a_warning():
    finding = only(RULE, loaded(mismatched=(("bn.running_var", HALF),)))
    assert finding.severity is Severity.WARNING
    assert finding.message.startswith("1 tensor in w.pt does not fit")


def test_shapes_and_casts_are_two_findings():
    findings = outcome(RULE, loaded(mismatched=(("bn.running_mean", HALF), ("conv.weight", SHAPE))))
    assert [finding.severity for finding in findings] == [Severity.ERROR, Severity.WARNING]


def test_a_half_statistic_of_another_shape_is_an_error():
    assert only(RULE, loaded(mismatched=(("bn.running_var", f"{HALF}; {SHAPE}"),))).severity is Severity.ERROR


def test_weights_that_fit_are_silent():
    assert outcome(RULE, loaded(missing=("fc.weight",), unexpected=("head.weight",))) == []
    assert outcome(RULE, without_loading()) == []
