from rule_subjects import batch_norm, call, graph, instance_norm, only, outcome, paths, subject

from bn_audit.rules.graph.bn309_torchscript_train_flag import RULE
from bn_audit.subject.finding import Intent, Severity
from bn_audit.subject.norm import Mode, ModeOrigin


def scripted(path, mode, **changes):
    return batch_norm(path, mode, mode_origin=ModeOrigin.SCRIPTED_FLAG, requires_grad=None, **changes)


def test_a_scripted_model_in_training_mode():
    finding = only(RULE, graph(scripted("a", Mode.TRAIN), scripted("b", Mode.TRAIN)))
    assert finding.message == (
        "2 of 2 batch-norm layers are in training mode as scripted, until somebody calls eval() after loading"
    )
    assert finding.severity is Severity.ERROR


def test_a_mixture_names_the_layers_that_train():
    assert paths(only(RULE, graph(scripted("a", Mode.EVAL), scripted("b", Mode.TRAIN)))) == ["b"]


def test_evaluation_mode_is_silent():
    assert outcome(RULE, graph(scripted("a", Mode.EVAL))) == []


def test_layers_that_eval_cannot_change_are_left_to_their_own_rule():
    bare = scripted("a", Mode.TRAIN, running_mean=None, running_var=None, track_running_stats=False)
    assert outcome(RULE, graph(bare, instance_norm("b", Mode.TRAIN, mode_origin=ModeOrigin.SCRIPTED_FLAG))) == []


def test_flags_and_constants_elsewhere_are_silent():
    assert outcome(RULE, subject(batch_norm("a", Mode.TRAIN))) == []
    assert outcome(RULE, graph(call("a", Mode.TRAIN, ModeOrigin.TRACED_CONSTANT))) == []


def test_a_training_checkpoint_may_be_scripted():
    assert RULE.overrides == {Intent.RESUME: Severity.NOTE}
