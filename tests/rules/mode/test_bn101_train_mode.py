from rule_subjects import (
    MODULE_FACTS,
    NOT_CHECKED,
    batch_norm,
    frozen_norm,
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

from bn_audit.rules.mode.bn101_train_mode import RULE
from bn_audit.subject.finding import Confidence, Intent, Severity
from bn_audit.subject.norm import Mode, ModeOrigin


def test_every_layer_in_training_mode_is_one_finding():
    finding = only(RULE, subject(*(batch_norm(f"bn{index}", Mode.TRAIN) for index in range(3))))
    assert finding.message == "3 of 3 batch-norm layers are in training mode"
    assert paths(finding) == ["bn0", "bn1", "bn2"]
    assert finding.evidence == {"training": 3, "batch_norms": 3}
    assert finding.severity is Severity.ERROR


def test_one_layer_of_many_is_counted_against_the_batch_norms_only():
    finding = only(RULE, subject(batch_norm("a"), batch_norm("b", Mode.TRAIN), instance_norm("c", Mode.TRAIN)))
    assert finding.message == "1 of 2 batch-norm layers is in training mode"
    assert paths(finding) == ["b"]


def test_each_model_of_a_checkpoint_is_judged_alone():
    findings = outcome(
        RULE,
        subject(
            batch_norm("bn", Mode.TRAIN, model="model"),
            batch_norm("bn", Mode.TRAIN, model="student.ema"),
            batch_norm("bn", model="teacher"),
        ),
    )
    assert [finding.message for finding in findings] == [
        "1 of 1 batch-norm layer in 'model' is in training mode",
        "1 of 1 batch-norm layer in 'student.ema' is in training mode",
    ]


def test_optimizer_state_beside_the_model_suggests_the_resume_intent():
    audited = subject(batch_norm("bn", Mode.TRAIN), has_optimizer_state=True)
    assert "optimizer state" in only(RULE, audited).remedy
    assert "--intent resume" in only(RULE, audited).remedy


def test_a_look_alike_of_medium_confidence_stays_of_medium_confidence():
    unsure = batch_norm("bn", Mode.TRAIN, confidence=Confidence.MEDIUM)
    assert only(RULE, subject(unsure)).confidence is Confidence.MEDIUM
    assert only(RULE, subject(unsure, batch_norm("b", Mode.TRAIN))).confidence is Confidence.HIGH


def test_evaluation_mode_is_silent():
    assert outcome(RULE, subject(batch_norm("a"), batch_norm("b"))) == []


def test_layers_that_ignore_the_flag_are_silent():
    ignoring = batch_norm("ema", Mode.TRAIN, uses_batch_statistics=False)
    assert outcome(RULE, subject(instance_norm("in", Mode.TRAIN), frozen_norm("frozen"), ignoring)) == []


def test_layers_that_eval_cannot_change_are_left_to_their_own_rules():
    lazy = batch_norm("lazy", Mode.TRAIN, uninitialised=True)
    assert outcome(RULE, subject(no_statistics("bn", Mode.TRAIN), lazy)) == []


def test_a_scripted_flag_is_left_to_its_own_rule():
    scripted = batch_norm("bn", Mode.TRAIN, mode_origin=ModeOrigin.SCRIPTED_FLAG)
    assert outcome(RULE, graph(scripted)) == []


def test_a_state_dict_is_not_checked_rather_than_clean():
    assert outcome(RULE, state_dict(stored_norm())) == NOT_CHECKED


def test_a_model_without_batch_norm_is_silent_even_without_modes():
    assert outcome(RULE, state_dict()) == []
    assert outcome(RULE, subject(facts=MODULE_FACTS)) == []


def test_training_mode_is_normal_where_training_goes_on():
    assert RULE.overrides == {Intent.RESUME: Severity.NOTE, Intent.FINETUNE: Severity.NOTE}


def test_layers_that_eval_misses_need_another_remedy():
    finding = only(RULE, subject(batch_norm("a", Mode.TRAIN), batch_norm("list.0", Mode.TRAIN, registered=False)))
    assert finding.message == "2 of 2 batch-norm layers are in training mode, 1 of them out of reach of eval()"
    assert finding.remedy.startswith("Register the 1 that eval() misses (BN108)")
