from rule_subjects import (
    batch_norm,
    call,
    graph,
    instance_norm,
    no_statistics,
    only,
    outcome,
    paths,
    state_dict,
    stored_norm,
    subject,
)

from bn_audit.rules.mode.bn103_no_running_statistics import RULE
from bn_audit.subject.finding import Confidence, Severity
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin


def test_a_layer_without_statistics_uses_the_batch_even_in_evaluation():
    finding = only(RULE, subject(no_statistics("a"), batch_norm("b"), no_statistics("c", Mode.TRAIN)))
    assert finding.message == (
        "2 of 3 batch-norm layers have no running statistics and normalise with the current batch, even after eval()"
    )
    assert paths(finding) == ["a", "c"]


def test_statistics_dropped_for_test_time_adaptation_count_as_none():
    assert paths(only(RULE, subject(no_statistics("a", track_running_stats=True)))) == ["a"]


def test_fires_once_for_each_model():
    findings = outcome(
        RULE, subject(*(no_statistics(f"bn{index}", model=route) for index in range(9) for route in "ab"))
    )
    assert [len(finding.locations) for finding in findings] == [9, 9]


def test_an_exported_call_without_statistics_is_found():
    exported = call("bn", Mode.TRAIN, ModeOrigin.EXPORTED_ARGUMENT, running_mean=None, running_var=None)
    assert only(RULE, graph(exported)).confidence is Confidence.HIGH


def test_an_undecided_input_lowers_the_confidence():
    exported = call(
        "bn",
        Mode.TRAIN,
        ModeOrigin.EXPORTED_ARGUMENT,
        running_mean=None,
        running_var=None,
        input_origin=InputOrigin.UNDECIDED,
    )
    assert only(RULE, graph(exported)).confidence is Confidence.MEDIUM


def test_weight_standardisation_and_disguised_instance_norm_are_silent():
    for origin in (InputOrigin.PARAMETERS, InputOrigin.INSTANCES):
        exported = call(
            "bn", Mode.TRAIN, ModeOrigin.EXPORTED_ARGUMENT, running_mean=None, running_var=None, input_origin=origin
        )
        assert outcome(RULE, graph(exported)) == []


def test_instance_norm_and_stored_statistics_are_silent():
    assert outcome(RULE, subject(instance_norm("in"), batch_norm("bn", Mode.TRAIN))) == []


def test_what_the_artifact_cannot_say_is_silent():
    unknown = stored_norm("bn", running_mean=None, running_var=None, uses_batch_statistics=None)
    assert outcome(RULE, state_dict(unknown)) == []
    assert outcome(RULE, subject(no_statistics("lazy", Mode.TRAIN, uninitialised=True))) == []


def test_a_running_deviation_in_place_of_the_variance_is_a_statistic():
    renorm = batch_norm("bn", Mode.TRAIN, running_var=None, type_name="rl.BatchRenorm", uses_batch_statistics=True)
    assert outcome(RULE, subject(renorm)) == []


def test_a_class_that_may_be_an_instance_norm_is_a_warning():
    norms = [
        no_statistics(path, mode, type_name="their.Norm", uses_batch_statistics=None, confidence=Confidence.MEDIUM)
        for path, mode in (("a", Mode.TRAIN), ("b", Mode.EVAL))
    ]
    findings = outcome(RULE, subject(*norms, no_statistics("c")))
    assert [(paths(finding), finding.severity, finding.confidence) for finding in findings] == [
        (["c"], Severity.ERROR, Confidence.HIGH),
        (["a", "b"], Severity.WARNING, Confidence.MEDIUM),
    ]
    assert "their.Norm" in findings[1].message
