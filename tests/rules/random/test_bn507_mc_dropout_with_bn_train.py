import pytest
from rule_subjects import (
    NOT_CHECKED,
    batch_norm,
    call,
    dropout,
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

from bn_audit import policy
from bn_audit.rules.mode.bn101_train_mode import RULE as TRAIN_MODE
from bn_audit.rules.random.bn507_mc_dropout_with_bn_train import RULE
from bn_audit.subject.design import Design
from bn_audit.subject.finding import Intent, Severity
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin

SAMPLING = frozenset({Design.MC_DROPOUT})


def test_batch_norms_that_train_beside_the_dropout_are_named():
    audited = subject(batch_norm("a", Mode.TRAIN), batch_norm("b"), batch_norm("c", Mode.TRAIN), declared=SAMPLING)
    finding = only(RULE, audited)
    assert finding.message == "2 of 3 batch-norm layers are in training mode, not dropout alone"
    assert paths(finding) == ["a", "c"]
    assert finding.evidence == {"training": 2, "batch_norms": 3}


@pytest.mark.parametrize("origin", [ModeOrigin.SCRIPTED_FLAG, ModeOrigin.TRACED_CONSTANT, ModeOrigin.ONNX_ATTRIBUTE])
def test_it_looks_into_graphs_too(origin):
    norm = call("bn", Mode.TRAIN, origin, input_origin=InputOrigin.ACTIVATIONS)
    assert paths(only(RULE, graph(norm, random_calls=(dropout(),), declared=SAMPLING))) == ["bn"]


def test_batch_norms_that_evaluate_are_what_sampling_asks_for():
    assert outcome(RULE, subject(batch_norm("a"), batch_norm("b"), declared=SAMPLING)) == []


def test_without_the_declaration_other_rules_speak():
    training = batch_norm("a", Mode.TRAIN)
    assert outcome(RULE, subject(training)) == []
    assert outcome(RULE, subject(training, declared=frozenset({Design.BATCH_STATISTICS}))) == []
    assert only(TRAIN_MODE, subject(training))


def test_layers_whose_mode_changes_nothing_are_silent():
    weights = call("conv", Mode.TRAIN, ModeOrigin.TRACED_CONSTANT, input_origin=InputOrigin.PARAMETERS)
    norms = (instance_norm("in", Mode.TRAIN), no_statistics("bn", Mode.TRAIN), weights)
    assert outcome(RULE, subject(*norms, declared=SAMPLING)) == []


def test_a_state_dict_cannot_say():
    assert outcome(RULE, state_dict(stored_norm("bn"), declared=SAMPLING)) == NOT_CHECKED


def test_its_remedy_replaces_the_one_that_would_end_the_sampling():
    audited = subject(batch_norm("a", Mode.TRAIN), declared=SAMPLING)
    found = [only(TRAIN_MODE, audited), only(RULE, audited)]
    assert [item.code for item in policy.judge(found, (TRAIN_MODE, RULE), Intent.DEPLOY)] == ["BN507"]


def test_training_is_normal_where_training_goes_on():
    assert RULE.overrides == {Intent.RESUME: Severity.NOTE, Intent.FINETUNE: Severity.NOTE}
