import pytest
from rule_subjects import (
    MODULE_FACTS,
    NOT_CHECKED,
    batch_norm,
    counter,
    fresh,
    graph,
    no_statistics,
    only,
    onnx_norm,
    outcome,
    paths,
    state_dict,
    stored_norm,
    subject,
)

from bn_audit.rules.statistics.bn209_suspicious_momentum import RULE
from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import Mode
from bn_audit.subject.subject import Facts


@pytest.mark.parametrize("momentum", [0.9, 0.99, 0.997, 0.999])
def test_the_convention_of_tensorflow(momentum):
    finding = only(RULE, subject(batch_norm("a", momentum=momentum), batch_norm("b")))
    assert finding.message.startswith(f"1 of 2 batch-norm layers has momentum {momentum}, as in the convention")
    assert finding.confidence is Confidence.MEDIUM


@pytest.mark.parametrize("momentum", [-0.1, 1.5, 99.0, float("nan"), float("inf")])
def test_nonsense(momentum):
    assert "outside 0 to 1" in only(RULE, subject(batch_norm(momentum=momentum))).message


def test_zero_over_initial_statistics_never_learns():
    finding = only(RULE, subject(fresh("a", momentum=0.0, num_batches_tracked=counter(500))))
    assert "momentum 0.0, so that the initial statistics never move" in finding.message
    assert finding.confidence is Confidence.HIGH


def test_zero_in_training_mode_stands_still():
    assert "never move" in only(RULE, subject(batch_norm("a", Mode.TRAIN, momentum=0.0))).message


def test_different_causes_are_different_findings():
    audited = subject(batch_norm("a", momentum=0.99), batch_norm("b", momentum=2.0), batch_norm("c", momentum=0.9))
    findings = outcome(RULE, audited)
    assert [paths(finding) for finding in findings] == [["a", "c"], ["b"]]
    assert findings[0].evidence["momentum"] == [0.9, 0.99]


@pytest.mark.parametrize("momentum", [0.1, 0.01, 3e-4, 0.5, 1.0])
def test_usual_values_and_calibration_are_silent(momentum):
    assert outcome(RULE, subject(batch_norm("a", momentum=momentum))) == []


def test_a_plain_average_is_silent():
    assert outcome(RULE, subject(batch_norm("a", momentum=None, cumulative=True))) == []


def test_frozen_layers_do_not_use_it():
    frozen = batch_norm("a", momentum=0.99, requires_grad=False)
    assert outcome(RULE, subject(frozen, batch_norm("b", momentum=0.0))) == []


def test_without_statistics_there_is_nothing_to_update():
    assert outcome(RULE, subject(no_statistics("a", momentum=0.99))) == []


def test_values_are_not_needed_to_see_an_inverted_momentum():
    assert outcome(RULE, subject(batch_norm("a", momentum=0.99), facts=MODULE_FACTS & ~Facts.VALUES))


def test_a_state_dict_records_no_momentum():
    assert outcome(RULE, state_dict(stored_norm())) == NOT_CHECKED


def test_an_onnx_node_uses_its_momentum_in_training_form_only():
    assert outcome(RULE, graph(onnx_norm("a", momentum=0.99), onnx_norm("b", momentum=0.0))) == []
    assert paths(only(RULE, graph(onnx_norm("a", Mode.TRAIN, momentum=0.99)))) == ["a"]


def test_layers_written_by_hand_may_have_the_other_convention():
    assert outcome(RULE, subject(batch_norm("bn", momentum=0.9, track_running_stats=None))) == []
    assert only(RULE, subject(batch_norm("bn", momentum=1.5, track_running_stats=None)))
