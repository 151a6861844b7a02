from rule_subjects import batch_norm, counter, only, outcome, paths, ref, stored_norm, subject

from bn_audit.rules.statistics.bn211_uneven_batch_counters import RULE
from bn_audit.subject.finding import Severity


def counting(*counts):
    return subject(
        *(batch_norm(f"bn{index}", num_batches_tracked=counter(count)) for index, count in enumerate(counts))
    )


def test_an_exact_multiple_means_several_updates_in_each_step():
    finding = only(RULE, counting(1000, 1000, 2000, 1000, 2000))
    assert finding.message == (
        "2 of 5 batch-norm layers have counted 2000 batches where the usual count is 1000, "
        "a multiple: several updates in each step"
    )
    assert paths(finding) == ["bn2", "bn4"]
    assert finding.severity is Severity.NOTE


def test_after_one_step_under_checkpointing():
    assert paths(only(RULE, counting(1, 2))) == ["bn1"]


def test_layers_that_saw_much_less():
    finding = only(RULE, counting(90_000, 90_000, 90_000, 12_345))
    assert paths(finding) == ["bn3"]
    assert "12345 batches where the usual count is 90000" in finding.message


def test_both_causes_are_two_findings():
    assert [paths(finding) for finding in outcome(RULE, counting(1000, 1000, 3000, 10))] == [["bn2"], ["bn3"]]


def test_equal_and_slightly_different_counts_are_silent():
    assert outcome(RULE, counting(1000, 1000, 1000)) == []
    assert outcome(RULE, counting(1000, 1000, 1001, 1500)) == []


def test_frozen_and_fresh_layers_that_counted_nothing_are_silent():
    assert outcome(RULE, counting(0, 0, 1000)) == []
    assert outcome(RULE, counting(0, 0)) == []


def test_two_models_of_a_gan_are_not_compared():
    audited = subject(
        batch_norm(model="generator", num_batches_tracked=counter(1000)),
        batch_norm(model="critic", num_batches_tracked=counter(5000)),
    )
    assert outcome(RULE, audited) == []


def test_counters_that_are_no_counts_are_silent():
    odd = [
        counter(float("inf"), "float32"),
        counter(float("nan"), "float32"),
        ref([1, 2, 3], "int64"),
        counter(-5),
        None,
    ]
    norms = [stored_norm(f"bn{index}", num_batches_tracked=tensor) for index, tensor in enumerate(odd)]
    assert outcome(RULE, subject(*norms, stored_norm("bn"))) == []
