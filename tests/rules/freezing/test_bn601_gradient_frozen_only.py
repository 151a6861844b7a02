from rule_subjects import (
    MODULE_FACTS,
    NOT_CHECKED,
    batch_norm,
    frozen_norm,
    no_statistics,
    only,
    outcome,
    paths,
    state_dict,
    stored_norm,
    subject,
)

from bn_audit.rules.freezing.bn601_gradient_frozen_only import RULE
from bn_audit.subject.finding import Confidence, Severity
from bn_audit.subject.norm import Mode
from bn_audit.subject.subject import Facts, Form, Model


def model(takes_gradients):
    return (Model(route="", form=Form.MODULE, takes_gradients=takes_gradients),)


def test_layers_frozen_by_gradient_among_layers_that_train():
    frozen = batch_norm("frozen", Mode.TRAIN, requires_grad=False)
    finding = only(RULE, subject(frozen, batch_norm("free", Mode.TRAIN)))
    assert finding.message == (
        "1 of 2 batch-norm layers takes no gradients but is in training mode: the statistics still move"
    )
    assert paths(finding) == ["frozen"]
    assert (finding.severity, finding.confidence) == (Severity.WARNING, Confidence.HIGH)


def test_every_batch_norm_frozen_while_other_parameters_train():
    norms = [batch_norm(f"bn{index}", Mode.TRAIN, requires_grad=False) for index in range(3)]
    finding = only(RULE, subject(*norms, models=model(takes_gradients=True)))
    assert (len(finding.locations), finding.confidence) == (3, Confidence.HIGH)


def test_an_artifact_that_does_not_say_what_else_trains_lowers_the_confidence():
    frozen = batch_norm("bn", Mode.TRAIN, requires_grad=False)
    assert only(RULE, subject(frozen, models=model(takes_gradients=None))).confidence is Confidence.MEDIUM


def test_an_inference_copy_takes_no_gradients_at_all():
    frozen = batch_norm("bn", Mode.TRAIN, requires_grad=False)
    assert outcome(RULE, subject(frozen, models=model(takes_gradients=False))) == []


def test_frozen_in_evaluation_mode_is_the_right_way():
    frozen = batch_norm("frozen", requires_grad=False)
    assert outcome(RULE, subject(frozen, batch_norm("free", Mode.TRAIN))) == []


def test_trainable_scales_over_fixed_statistics_are_a_recipe():
    assert outcome(RULE, subject(batch_norm("a"), batch_norm("b"), models=model(takes_gradients=True))) == []


def test_layers_without_parameters_or_statistics_to_freeze_are_silent():
    plain = batch_norm("a", Mode.TRAIN, weight=None, bias=None, affine=False, requires_grad=None)
    untracked = no_statistics("b", Mode.TRAIN, requires_grad=False)
    audited = subject(plain, untracked, frozen_norm("c"), models=model(takes_gradients=True))
    assert outcome(RULE, audited) == []


def test_gradients_that_are_not_recorded_are_not_checked():
    assert outcome(RULE, subject(batch_norm(), facts=MODULE_FACTS & ~Facts.GRADIENTS)) == NOT_CHECKED
    assert outcome(RULE, state_dict(stored_norm())) == []
