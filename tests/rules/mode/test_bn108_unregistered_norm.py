from rule_subjects import batch_norm, frozen_norm, only, outcome, paths, state_dict, stored_norm, subject

from bn_audit.rules.mode.bn108_unregistered_norm import RULE
from bn_audit.subject.norm import Mode


def test_a_layer_in_a_plain_list_is_found_and_its_mode_is_said():
    finding = only(RULE, subject(batch_norm("a"), batch_norm("norms[0]", Mode.TRAIN, registered=False)))
    assert finding.message == (
        "1 normalisation layer outside the module tree, where eval(), to() and state_dict() miss it, "
        "1 of them in training mode"
    )
    assert paths(finding) == ["norms[0]"]


def test_any_kind_of_norm_layer_is_missed_by_the_state_dict():
    assert paths(only(RULE, subject(frozen_norm("frozen[0]", Mode.EVAL, registered=False)))) == ["frozen[0]"]


def test_registered_layers_and_their_aliases_are_silent():
    assert outcome(RULE, subject(batch_norm("a", aliases=("b", "c")))) == []


def test_a_state_dict_holds_no_modules_to_look_at():
    assert outcome(RULE, state_dict(stored_norm())) == []
