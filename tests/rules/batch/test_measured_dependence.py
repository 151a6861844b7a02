"""BN401, BN402, BN405, BN407 and BN409 beside a run: measured alone, proved alone, both, and against each other."""

from dataclasses import replace

import pytest
from rule_subjects import (
    FLOW_FACTS,
    batch_norm,
    declaring,
    flow,
    mark,
    observation,
    only,
    onnx_norm,
    outcome,
    ran,
)

from bn_audit import plugins, policy
from bn_audit.rules.batch.bn401_depends_on_companions import RULE as BN401
from bn_audit.rules.batch.bn402_depends_on_batch_size import RULE as BN402
from bn_audit.rules.batch.bn405_dynamic_quantisation_couples import RULE as BN405
from bn_audit.rules.batch.bn407_reduces_over_batch import RULE as BN407
from bn_audit.rules.batch.bn409_depends_on_position import RULE as BN409
from bn_audit.subject.design import Design
from bn_audit.subject.finding import Confidence, Intent, Severity
from bn_audit.subject.norm import Mode
from bn_audit.subject.observation import OutputResult, Place
from bn_audit.subject.subject import Facts

BN = Place(path="stem.bn", type_name="torch.nn.modules.batchnorm.BatchNorm2d", op="aten.native_batch_norm.default")
SOFTMAX = Place(path="head.pool", op="Softmax", node="Softmax_7")

CASES = [
    pytest.param(BN401, "content", "mixes", id="BN401"),
    pytest.param(BN402, "size", "size", id="BN402"),
    pytest.param(BN409, "position", "position", id="BN409"),
]


def measured(verdict="content", effect=0.12, **changes):
    return observation(verdict, effect=effect, **changes)


def traced(*norms, run, flows=(), marks=(), **changes):
    """A graph that was followed and run."""
    facts = FLOW_FACTS | Facts.OBSERVATION
    given = {"graphs": {"": declaring("batch")}, "batch_flow": flows, "flow_marks": marks}
    return ran(*norms, run=run, facts=facts, **{**given, **changes})


def test_a_layer_in_training_mode_is_named_with_the_rule_that_reports_it():
    run = measured(first_divergence=BN, restored_by=("stem.bn",))
    finding = only(BN401, ran(batch_norm("stem.bn", Mode.TRAIN), run=run))
    assert finding.message == (
        "a sample's answer depends on the other samples of its batch: by up to 12% of its largest output, 3e+04 times "
        "the noise floor, first at 'stem.bn' (BatchNorm2d, aten.native_batch_norm.default) (see BN101), "
        "gone with 'stem.bn' in evaluation mode"
    )
    assert (finding.severity, finding.confidence) == (Severity.ERROR, Confidence.HIGH)
    assert [place.path for place in finding.locations] == ["stem.bn"]
    assert finding.evidence["cause"] == "BN101"
    assert finding.evidence["measured"]["effect"] == 0.12
    assert finding.remedy == "Repair the batch norm that BN101 reports."


def test_proved_and_measured_name_the_rule_of_the_layer_once():
    run = measured(first_divergence=Place(path="bn", node="node_bn", op="BatchNormalization"))
    flows = (flow("mixes", "y", "node_bn", "bn"),)
    finding = only(BN401, traced(onnx_norm("bn", Mode.TRAIN), run=run, flows=flows))
    assert "proved, and measured" in finding.message
    assert finding.message.count("(see BN301)") == 1


def test_an_operator_is_named_where_no_layer_is_to_blame():
    place = Place(path="head", op="aten._softmax.default")
    finding = only(BN401, ran(batch_norm("a"), run=measured(first_divergence=place)))
    assert "first at 'head' (aten._softmax.default)" in finding.message
    assert finding.evidence["cause"] is None
    assert "see BN" not in finding.message


def test_rows_that_only_move_at_first():
    run = measured(first_divergence=Place(path="reshape"), combined_at=Place(path="conv"))
    assert "first at 'reshape', first combined at 'conv'" in only(BN401, ran(run=run)).message


@pytest.mark.parametrize(("rule", "verdict", "proved"), CASES)
def test_a_measured_verdict_belongs_to_one_rule(rule, verdict, proved):
    assert only(rule, ran(run=measured(verdict)))
    for other in {"independent", "content", "position", "size", "inconclusive", "cannot-run"} - {verdict}:
        assert outcome(rule, ran(run=measured(other))) == []


@pytest.mark.parametrize(("rule", "verdict", "proved"), CASES)
def test_proved_and_measured_are_one_finding(rule, verdict, proved):
    flows = (flow(proved, "y", "Softmax_7", "head.pool", why="Softmax over the batch axis"),)
    finding = only(rule, traced(run=measured(verdict, first_divergence=SOFTMAX), flows=flows))
    assert "Softmax over the batch axis at 'head.pool'; proved, and measured: by up to 12%" in finding.message
    assert finding.evidence["measured"]["verdict"] == verdict
    assert finding.evidence["outputs"]
    assert len(finding.locations) == 1


@pytest.mark.parametrize(("rule", "verdict", "proved"), CASES)
def test_what_is_proved_and_not_seen_is_said_with_less_confidence(rule, verdict, proved):
    flows = (flow(proved, "y", "Add_1", why="Add"),)
    finding = only(rule, traced(run=observation(), flows=flows))
    assert finding.message.endswith("; proved, and not seen in a run (12 exchanges of the companions moved no bit)")
    assert finding.confidence is Confidence.MEDIUM
    assert finding.severity is rule.severity


@pytest.mark.parametrize(("rule", "verdict", "proved"), CASES)
def test_a_measurement_wins_over_a_proof_of_independence(rule, verdict, proved):
    outputs = (OutputResult(name="y", dtype="float32", shape=(8, 4), max_rel=0.12),)
    audited = traced(run=measured(verdict, outputs=outputs), flows=(flow("independent", "y"),))
    finding = only(rule, audited)
    assert finding.message.endswith("; the proof of the graph saw no such dependence, the measurement counts")
    assert finding.evidence["measured"]["proved_independent_and_moved"] == ["y"]


def test_one_output_is_proved_and_another_only_measured():
    outputs = tuple(OutputResult(name=name, dtype="float32", shape=(8, 4), max_rel=0.1) for name in ("a", "b"))
    flows = (flow("mixes", "a", "Softmax_7"), flow("independent", "b"), flow("independent", "c"))
    finding = only(BN401, traced(run=measured(outputs=outputs), flows=flows))
    assert finding.evidence["measured"]["proved_independent_and_moved"] == ["b"]


def test_a_run_of_one_model_says_nothing_about_another():
    flows = (flow("mixes", "y", "Softmax_7", model="ema"),)
    graphs = {"": declaring("batch"), "ema": declaring("batch")}
    findings = outcome(BN401, traced(run=measured(), flows=flows, graphs=graphs))
    assert len(findings) == 2
    assert sorted("measured" in finding.evidence for finding in findings) == [False, True]
    assert ["proved, and" in finding.message for finding in findings] == [False, False]


@pytest.mark.parametrize(
    ("effect", "floor", "changes", "severity"),
    [
        (1.1e-5, 4e-6, {}, Severity.NOTE),
        (1.3e-5, 4e-6, {}, Severity.WARNING),
        (1e-2, 4e-6, {}, Severity.WARNING),
        (1.1e-2, 4e-6, {}, Severity.ERROR),
        (1e-2, None, {}, Severity.WARNING),
        (1e-7, 4e-6, {"top1_changes": 1}, Severity.ERROR),
        (float("inf"), 4e-6, {}, Severity.ERROR),
        (None, 4e-6, {}, Severity.ERROR),
    ],
)
def test_the_severity_follows_the_effect(effect, floor, changes, severity):
    outputs = (OutputResult(name="y", dtype="float32", shape=(8, 10), max_rel=effect, **changes),)
    run = measured(effect=effect, noise_floor=floor, outputs=outputs)
    assert only(BN401, ran(run=run)).severity is severity
    assert only(BN409, ran(run=replace(run, verdict="position"))).severity is severity
    at_most_warning = severity if severity is Severity.NOTE else Severity.WARNING
    assert only(BN402, ran(run=replace(run, verdict="size"))).severity is at_most_warning


def test_what_a_run_decides_is_no_longer_open():
    flows = (flow("undecided", "y", "Custom_1", why="unknown operator"),)
    for rule in (BN401, BN402, BN409):
        assert list(rule.open_questions(traced(run=observation(), flows=flows))) == []
        assert len(list(rule.open_questions(traced(run=observation("inconclusive", why="so"), flows=flows)))) == 2


def test_a_run_that_decides_nothing_is_said_unless_the_proof_decides():
    run = observation("inconclusive", why="every norm layer holds initial statistics")
    (reason,) = BN401.open_questions(ran(run=run))
    assert reason == "a run decided nothing: every norm layer holds initial statistics"
    assert list(BN401.open_questions(traced(run=run, flows=(flow("independent"),)))) == []


def test_dynamic_quantisation_that_a_run_shows():
    run = measured(effect=0.03, quantised_dynamically=True, first_divergence=Place(path="fc", op="quantized::linear"))
    audited = ran(run=run)
    finding = only(BN405, audited)
    assert "one range for all activations: by up to 3%" in finding.message
    assert finding.severity is Severity.WARNING
    assert outcome(BN401, audited) == []


def test_dynamic_quantisation_in_a_graph_is_one_finding():
    where = {"node": "DynamicQuantizeLinear_1", "why": "one range for the batch"}
    flows, marks = (flow("mixes", "y", **where),), (mark("quantises", **where), mark("mixes", **where))
    audited = traced(
        run=measured(effect=0.03, first_divergence=Place(node=where["node"], op="DynamicQuantizeLinear")),
        flows=flows,
        marks=marks,
    )
    assert "proved, and measured: by up to 3%" in only(BN405, audited).message
    assert outcome(BN401, audited) == []
    assert outcome(BN407, audited) == []


def test_mixing_beyond_dynamic_quantisation_is_not_excused_by_it():
    marks = (mark("quantises", "DynamicQuantizeLinear_1"), mark("mixes", "DynamicQuantizeLinear_1"))
    run = measured(first_divergence=SOFTMAX)
    audited = traced(run=run, flows=(flow("mixes", "y", "DynamicQuantizeLinear_1"),), marks=marks)
    assert only(BN401, audited).locations[0].node == "Softmax_7"
    assert "measured" not in only(BN405, audited).evidence


def test_a_node_that_a_run_finds_guilty_is_told_once():
    marks = (mark("mixes", "Softmax_7", "head.pool"),)
    audited = traced(run=measured(first_divergence=SOFTMAX), flows=(flow("undecided", "y", "X_1"),), marks=marks)
    assert outcome(BN407, audited) == []
    assert only(BN401, audited)
    assert only(BN407, traced(run=observation(), flows=(flow("independent", "y"),), marks=marks))


def test_the_cause_and_the_consequence_stand_side_by_side_and_nothing_else():
    run = measured(first_divergence=Place(path="bn", node="node_bn", op="BatchNormalization"))
    audited = traced(
        onnx_norm("bn", Mode.TRAIN),
        run=run,
        flows=(flow("mixes", "y", "node_bn", "bn"),),
        marks=(mark("mixes", "node_bn", "bn"),),
    )
    found = [finding for rule in plugins.rules() for finding in outcome(rule, audited)]
    judged = policy.judge(found, plugins.rules(), Intent.DEPLOY)
    assert sorted(finding.code for finding in judged) == ["BN301", "BN401"]


def test_where_no_place_is_known_the_layers_in_training_mode_are_named_as_likely():
    finding = only(BN401, ran(batch_norm("bn", Mode.TRAIN), run=measured()))
    assert finding.message.endswith("; BN101 reports batch norms that use the batch's statistics")
    assert finding.locations == ()
    assert finding.evidence["cause"] == "BN101"
    assert finding.remedy == "Repair the batch norms that BN101 reports, and run the model again."
    assert only(BN401, ran(batch_norm("bn"), run=measured())).evidence["cause"] is None


def test_a_layer_that_runs_otherwise_than_it_is_saved():
    finding = only(BN401, ran(batch_norm("stem.bn"), run=measured(first_divergence=BN)))
    assert "see BN" not in finding.message
    assert finding.remedy.startswith("This batch norm is saved in evaluation mode and runs with the batch's statistics")


def test_the_rule_that_speaks_of_the_layer_is_named_and_not_one_that_it_supersedes():
    run = measured(first_divergence=BN)
    audited = ran(batch_norm("stem.bn", Mode.TRAIN), batch_norm("head.bn"), run=run)
    assert only(BN401, audited).evidence["cause"] == "BN102"
    declared = ran(batch_norm("stem.bn", Mode.TRAIN), run=run, declared=frozenset({Design.MC_DROPOUT}))
    assert only(BN401, declared).evidence["cause"] == "BN507"
    for given in (audited, declared):
        found = [finding for rule in plugins.rules() for finding in outcome(rule, given)]
        codes = {finding.code for finding in policy.judge(found, plugins.rules(), Intent.DEPLOY)}
        assert only(BN401, given).evidence["cause"] in codes
