from loadings import CONVOLUTION, LAYER, loaded, without_loading
from rule_subjects import batch_norm, only, outcome

from bn_audit.rules.loading.bn202_missing_batch_counter import RULE
from bn_audit.subject.finding import Location, Severity

COUNTER = "bn.num_batches_tracked"


def test_a_counter_that_old_weights_lack_is_a_note():
    finding = only(RULE, loaded(missing=(COUNTER,)))
    assert finding.message == "batch counters: 1 missing from w.pt, the rest of the layers fits"
    assert finding.locations == (Location(path="bn", tensor="num_batches_tracked"),)
    assert finding.severity is Severity.NOTE


def test_a_counter_that_the_model_lacks_is_a_note():
    assert only(RULE, loaded(unexpected=(COUNTER,))).message.startswith("batch counters: 1 unexpected in w.pt")


def test_a_plain_average_needs_its_counter():
    cumulative = batch_norm("bn", momentum=None, cumulative=True)
    finding = only(RULE, loaded(missing=(COUNTER,), norms=(cumulative,)))
    assert finding.severity is Severity.WARNING
    assert "momentum is None" in finding.message


def test_a_layer_of_the_top_module_has_no_path():
    assert only(RULE, loaded(missing=("num_batches_tracked",))).locations[0].path == ""


def test_a_counter_missing_with_its_layer_is_no_case_of_its_own():
    assert outcome(RULE, loaded(matched=CONVOLUTION, missing=LAYER)) == []


def test_weights_that_fit_are_silent():
    assert outcome(RULE, loaded()) == []
    assert outcome(RULE, without_loading()) == []
