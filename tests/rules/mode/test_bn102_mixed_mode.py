from rule_subjects import batch_norm, frozen_norm, no_statistics, only, outcome, paths, state_dict, stored_norm, subject

from bn_audit.rules.mode.bn102_mixed_mode import RULE
from bn_audit.subject.finding import Intent, Severity
from bn_audit.subject.norm import Mode
from bn_audit.subject.subject import Form, Model


def test_the_layers_in_training_mode_are_named():
    norms = [batch_norm(f"bn{index}", Mode.TRAIN if index < 3 else Mode.EVAL) for index in range(53)]
    finding = only(RULE, subject(*norms))
    assert finding.message == "3 of 53 batch-norm layers are in training mode while 50 are in evaluation mode"
    assert paths(finding) == ["bn0", "bn1", "bn2"]
    assert finding.evidence == {"training": 3, "evaluating": 50, "batch_norms": 53}


def test_a_single_layer_that_evaluates_is_a_mixture_too():
    finding = only(RULE, subject(batch_norm("a", Mode.TRAIN), batch_norm("b")))
    assert finding.message.endswith("is in training mode while 1 is in evaluation mode")


def test_an_unregistered_layer_in_training_mode_is_named_where_registered_ones_are_mixed():
    hidden = batch_norm("hidden", Mode.TRAIN, registered=False)
    assert paths(only(RULE, subject(batch_norm("a"), batch_norm("b", Mode.TRAIN), hidden))) == ["b", "hidden"]


def test_models_in_one_mode_are_silent_whatever_their_root_says():
    training = subject(
        batch_norm("a", Mode.TRAIN),
        batch_norm("b", Mode.TRAIN),
        models=(Model(route="", form=Form.MODULE, mode=Mode.EVAL),),
    )
    assert outcome(RULE, training) == []
    assert outcome(RULE, subject(batch_norm("a"), batch_norm("b"))) == []


def test_a_generator_in_evaluation_beside_a_discriminator_in_training_is_not_mixed():
    assert outcome(RULE, subject(batch_norm(model="generator"), batch_norm("bn", Mode.TRAIN, model="critic"))) == []


def test_layers_that_the_flag_does_not_rule_prove_no_mixture():
    assert outcome(RULE, subject(batch_norm("a"), frozen_norm("b"), no_statistics("c", Mode.TRAIN))) == []
    assert outcome(RULE, subject(batch_norm("a"), batch_norm("b", Mode.TRAIN, registered=False))) == []


def test_a_state_dict_gives_no_line_at_all():
    assert outcome(RULE, state_dict(stored_norm("a"), stored_norm("b"))) == []


def test_replaces_train_mode_and_is_normal_where_training_goes_on():
    assert RULE.supersedes == ("BN101",)
    assert RULE.overrides == {Intent.RESUME: Severity.NOTE, Intent.FINETUNE: Severity.NOTE}
