from loadings import CONVOLUTION, LAYER, loaded, without_loading
from rule_subjects import only, outcome

from bn_audit.rules.loading.bn203_low_key_match import RULE
from bn_audit.subject.finding import Severity


def test_another_architecture_fills_next_to_nothing():
    finding = only(RULE, loaded(matched=CONVOLUTION, missing=LAYER, unexpected=("fc.weight",)))
    assert finding.message == "1 of 6 keys of the model are filled from w.pt"
    assert finding.severity is Severity.ERROR


def test_keys_of_other_shapes_do_not_count_as_filled():
    mismatched = tuple((key, "shape (8,) in the file, (4,) in the model") for key in LAYER)
    assert only(RULE, loaded(matched=CONVOLUTION, mismatched=mismatched)).evidence["matched"] == 1


def test_a_prefix_as_the_only_difference_is_a_note():
    finding = only(RULE, loaded(prefix="module."))
    assert finding.severity is Severity.NOTE
    assert "only after the prefix 'module.' is stripped" in finding.message


def test_a_prefix_beside_missing_counters_is_still_a_note():
    assert only(RULE, loaded(prefix="module.", missing=("bn.num_batches_tracked",))).severity is Severity.NOTE


def test_a_prefix_beside_other_differences_is_an_error():
    assert only(RULE, loaded(prefix="model.", missing=("conv.weight",))).severity is Severity.ERROR


def test_an_exchanged_head_leaves_most_keys_and_is_silent():
    assert outcome(RULE, loaded(missing=("fc.weight", "fc.bias"), unexpected=("head.weight",))) == []


def test_a_large_file_of_which_the_model_needs_a_part_is_silent():
    assert outcome(RULE, loaded(unexpected=tuple(f"decoder.{index}.weight" for index in range(100)))) == []


def test_no_weights_and_a_model_without_keys_are_silent():
    assert outcome(RULE, without_loading()) == []
    assert outcome(RULE, loaded(matched=())) == []
