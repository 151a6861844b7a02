"""BN402 and BN409: rows that do not meet and still change with their number or order."""

import pytest
from rule_subjects import NOT_CHECKED, declaring, flow, followed, graph, mark, only, onnx_norm, outcome, subject

from bn_audit.rules.batch.bn402_depends_on_batch_size import RULE as BN402
from bn_audit.rules.batch.bn409_depends_on_position import RULE as BN409
from bn_audit.subject.finding import Severity

CASES = [pytest.param(BN402, "size", id="BN402"), pytest.param(BN409, "position", id="BN409")]


def test_a_value_divided_by_the_batch_size():
    finding = only(BN402, followed(flows=(flow("size", node="Div_3", why="Div by the number of samples"),)))
    assert finding.message == (
        "output 'y' changes with the number of samples in the batch: Div by the number of samples at 'Div_3'"
    )
    assert finding.severity is Severity.WARNING


def test_a_constant_that_differs_from_row_to_row():
    finding = only(BN409, followed(flows=(flow("position", node="Add_1", path="embed", why="Add of a constant"),)))
    assert finding.message == "output 'y' depends on the sample's place in the batch: Add of a constant at 'embed'"
    assert finding.severity is Severity.ERROR
    assert finding.locations[0].tensor == "y"


@pytest.mark.parametrize(("rule", "verdict"), CASES)
def test_several_outputs_are_one_finding(rule, verdict):
    finding = only(rule, followed(flows=(flow(verdict, "a", "n"), flow(verdict, "b", "n"), flow("mixes", "c", "m"))))
    assert finding.message.startswith("2 of 3 outputs ('a', 'b') ")
    assert finding.evidence["dependent"] == 2


@pytest.mark.parametrize(("rule", "verdict"), CASES)
def test_other_verdicts_are_silent(rule, verdict):
    others = tuple(flow(name, name, "n") for name in ("independent", "mixes", "undecided", "size", "position"))
    assert outcome(rule, followed(flows=tuple(item for item in others if item.verdict != verdict))) == []


@pytest.mark.parametrize(("rule", "verdict"), CASES)
def test_a_node_without_effect_on_an_output_is_silent(rule, verdict):
    assert outcome(rule, followed(flows=(flow("independent"),), marks=(mark(verdict, "Add_1"),))) == []


@pytest.mark.parametrize(("rule", "verdict"), CASES)
def test_a_batch_of_one_has_one_size_and_one_place(rule, verdict):
    assert outcome(rule, followed(flows=(flow(verdict, node="n"),), batch=1)) == []


@pytest.mark.parametrize(("rule", "verdict"), CASES)
def test_graphs_that_were_not_followed_are_said_and_modules_are_not(rule, verdict):
    assert outcome(rule, graph(onnx_norm("a"), graphs={"": declaring("batch")})) == NOT_CHECKED
    assert outcome(rule, subject()) == []


def test_a_declared_number_of_samples_never_changes_but_has_places():
    assert outcome(BN402, followed(flows=(flow("size", node="n"),), batch=6)) == []
    assert only(BN409, followed(flows=(flow("position", node="n"),), batch=6))
    assert only(BN402, followed(flows=(flow("size", node="n"),), graphs={"": declaring(6, "batch")}))
