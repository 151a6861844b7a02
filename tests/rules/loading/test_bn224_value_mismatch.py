from comparisons import artifact, beside, convolution
from rule_subjects import batch_norm, only, outcome, paths, ref, subject

from bn_audit.rules.loading.bn224_value_mismatch import RULE

SCALED = ref((1.0, 0.75, 0.5, 1.5))
MOVED = ref((0.25, -0.5, 1.5, 0.875))


def test_a_layer_that_moved_names_its_largest_difference():
    target = artifact(batch_norm(weight=SCALED, running_mean=MOVED))
    finding = only(RULE, beside(artifact(), target))
    assert finding.message == (
        "1 of 1 batch-norm layer differs in value from reference.pt "
        "(bn: the mean by 0.707 standard deviations in channel 3, -0.125 to 0.875; tolerance 1e-06)"
    )
    assert finding.evidence["largest"][0]["weight"]["size"] == 0.2


def test_other_tensors_are_compared_on_request():
    changed = (0.5, -0.25, 0.125, 1.5, 0.75, -1.0, 0.375, 0.125)
    reference, target = artifact(others=[convolution()]), artifact(others=[convolution(changed)])
    finding = only(RULE, beside(reference, target, everything=True))
    assert finding.message == (
        "1 tensor of 1 compared outside norm layers differs in value from reference.pt "
        "(conv.weight: by 0.333 of its largest element in channel 3, 0.625 to 0.125; tolerance 1e-06)"
    )
    assert paths(finding) == ["conv"]


def test_what_was_not_read_is_said_and_not_judged():
    audited = beside(artifact(others=[convolution()]), artifact(others=[convolution([2.0] * 8)]))
    assert outcome(RULE, audited) == []
    (unread,) = audited.comparison.values.not_compared
    assert unread.what == "the values of 1 tensor outside norm layers"


def test_equal_and_rounded_values_are_silent():
    assert outcome(RULE, beside(artifact(), artifact())) == []
    slightly = ref((0.25 * (1 + 2e-7), -0.5, 1.5, -0.125))
    assert outcome(RULE, beside(artifact(), artifact(batch_norm(running_mean=slightly)))) == []
    assert outcome(RULE, subject(batch_norm())) == []
