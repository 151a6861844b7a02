"""The rules about layers that a run claims to keep frozen."""

from comparisons import artifact, beside, convolution
from rule_subjects import batch_norm, fresh, frozen_norm, only, outcome, paths, ref

from bn_audit.rules.freezing.bn602_frozen_statistics_moved import RULE as BN602
from bn_audit.rules.freezing.bn603_frozen_pattern_unmatched import RULE as BN603
from bn_audit.rules.freezing.bn604_frozen_at_initial_statistics import RULE as BN604
from bn_audit.rules.freezing.bn605_statistics_never_moved import RULE as BN605
from bn_audit.subject.finding import Severity

MOVED = ref((0.25, -0.5, 1.5, 0.875))
SCALED = ref((1.0, 0.75, 0.5, 1.5))


def two(**changes):
    return batch_norm("backbone.bn", **changes), batch_norm("head.bn")


def test_statistics_of_a_frozen_layer_moved():
    target = artifact(*two(running_mean=MOVED), frozen=["backbone"])
    finding = only(BN602, beside(artifact(*two()), target))
    assert finding.message == (
        "1 of 1 batch-norm layer claimed frozen moved since reference.pt (backbone.bn: the mean by 0.707 standard "
        "deviations in channel 3, -0.125 to 0.875; tolerance 1e-06)"
    )
    assert paths(finding) == ["backbone.bn"]


def test_other_frozen_tensors_are_read_without_being_asked_for():
    weight = "backbone.conv.weight"
    reference = artifact(*two(), others=[convolution(name=weight)])
    target = artifact(*two(), others=[convolution([2.0] * 8, name=weight)], frozen=["backbone.*"])
    finding = only(BN602, beside(reference, target))
    assert finding.message.startswith("1 tensor claimed frozen moved since reference.pt (backbone.conv.weight: by ")


def test_layers_that_stayed_and_layers_that_nobody_claims_are_silent():
    assert outcome(BN602, beside(artifact(*two()), artifact(*two(), frozen=["*"]))) == []
    assert outcome(BN602, beside(artifact(*two()), artifact(*two(running_mean=MOVED), frozen=["head"]))) == []
    assert outcome(BN602, beside(artifact(*two()), artifact(*two(running_mean=MOVED)))) == []


def test_a_pattern_that_matches_nothing_is_an_error():
    finding = only(BN603, artifact(*two(), frozen=["backbone", "neck.*"]))
    assert finding.message == "the frozen pattern 'neck.*' matches nothing among 2 batch norms"
    assert finding.severity is Severity.ERROR


def test_a_pattern_that_matches_no_batch_norm_is_a_warning():
    finding = only(BN603, artifact(*two(), others=[convolution(name="neck.weight")], frozen=["neck"]))
    assert (finding.severity, finding.evidence["tensors"]) == (Severity.WARNING, 1)


def test_patterns_that_match_and_no_patterns_are_silent():
    assert outcome(BN603, artifact(*two(), frozen=["*", "backbone.bn"])) == []
    assert outcome(BN603, artifact(*two())) == []


def test_frozen_before_anything_was_learned():
    finding = only(BN604, artifact(fresh("a"), batch_norm("b"), frozen=["*"]))
    assert finding.message == (
        "1 of 2 batch-norm layers claimed frozen has the initial statistics mean 0 and variance 1"
    )
    assert paths(only(BN604, artifact(fresh("a"), fresh("b"), frozen=["a"]))) == ["a"]


def test_learned_layers_and_frozen_batch_norms_by_class_are_silent():
    assert outcome(BN604, artifact(batch_norm("a"), frozen=["*"])) == []
    assert outcome(BN604, artifact(frozen_norm("a"), frozen=["*"])) == []
    assert outcome(BN604, artifact(fresh("a"))) == []


def test_trained_weights_over_statistics_that_stood_still():
    finding = only(BN605, beside(artifact(*two()), artifact(*two(weight=SCALED))))
    assert finding.message == (
        "1 of 2 batch-norm layers has exactly the statistics of reference.pt although the weights were trained since"
    )
    assert paths(finding) == ["backbone.bn"]


def test_layers_without_scale_are_judged_by_the_other_weights():
    bare = batch_norm("bn", weight=None, bias=None)
    reference, target = artifact(bare, others=[convolution()]), artifact(bare, others=[convolution([2.0] * 8)])
    assert only(BN605, beside(reference, target, everything=True))
    assert outcome(BN605, beside(reference, target)) == []


def test_frozen_averaged_and_moved_layers_are_silent():
    reference = artifact(*two())
    assert outcome(BN605, beside(reference, artifact(*two(weight=SCALED), frozen=["backbone"]))) == []
    assert outcome(BN605, beside(reference, artifact(*two(weight=SCALED), averaged=True))) == []
    assert outcome(BN605, beside(reference, artifact(*two(weight=SCALED, running_mean=MOVED)))) == []
    assert outcome(BN605, beside(reference, artifact(*two()))) == []
