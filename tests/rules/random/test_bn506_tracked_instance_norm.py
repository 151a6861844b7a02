from rule_subjects import MEAN, VARIANCE, batch_norm, instance_norm, only, outcome, paths, ref, subject

from bn_audit.rules.random.bn506_tracked_instance_norm import RULE
from bn_audit.subject.finding import Severity
from bn_audit.subject.norm import Mode

TRACKED = {"running_mean": ref(MEAN), "running_var": ref(VARIANCE)}


def test_instance_norm_with_running_statistics():
    finding = only(RULE, subject(instance_norm("a", track_running_stats=True, **TRACKED), instance_norm("b")))
    assert finding.message == (
        "1 InstanceNorm layer with running statistics: eval() uses these instead of each sample's own"
    )
    assert paths(finding) == ["a"]
    assert finding.severity is Severity.WARNING


def test_in_training_mode_and_without_a_recorded_flag():
    assert outcome(RULE, subject(instance_norm("a", Mode.TRAIN, track_running_stats=None, **TRACKED)))


def test_the_default_instance_norm_is_silent():
    assert outcome(RULE, subject(instance_norm("a"))) == []


def test_buffers_that_the_flag_switches_off_are_not_used():
    assert outcome(RULE, subject(instance_norm("a", track_running_stats=False, **TRACKED))) == []


def test_batch_norm_is_meant_to_have_them():
    assert outcome(RULE, subject(batch_norm("a"))) == []
