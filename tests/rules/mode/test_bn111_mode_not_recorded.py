from rule_subjects import batch_norm, instance_norm, only, outcome, paths, state_dict, stored_norm, subject

from bn_audit.rules.mode.bn111_mode_not_recorded import RULE
from bn_audit.subject.finding import Severity
from bn_audit.subject.norm import Mode, ModeOrigin


def test_a_state_dict_gives_one_note_with_every_layer():
    finding = only(RULE, state_dict(*(stored_norm(f"bn{index}") for index in range(20))))
    assert finding.message == (
        "the mode of 20 of 20 batch-norm layers is not recorded: the code that loads them decides it"
    )
    assert finding.severity is Severity.NOTE
    assert len(finding.locations) == 20


def test_each_model_of_a_checkpoint_is_told_apart():
    findings = outcome(RULE, state_dict(stored_norm(model="model"), stored_norm(model="ema")))
    assert ["'model'" in findings[0].message, "'ema'" in findings[1].message] == [True, True]


def test_a_module_beside_a_state_dict_is_not_counted():
    audited = subject(batch_norm("a", model="net"), stored_norm("b", model="weights"))
    assert paths(only(RULE, audited)) == ["b"]


def test_recorded_modes_are_silent():
    assert outcome(RULE, subject(batch_norm("a"), batch_norm("b", Mode.TRAIN))) == []


def test_layers_whose_mode_does_not_matter_are_silent():
    unknown = {"mode_origin": ModeOrigin.NOT_RECORDED}
    audited = state_dict(
        instance_norm("in", Mode.UNKNOWN, **unknown), stored_norm("quantised", uses_batch_statistics=False)
    )
    assert outcome(RULE, audited) == []


def test_a_mode_decided_at_each_call_is_known():
    assert outcome(RULE, subject(batch_norm("a", Mode.CALLER))) == []
