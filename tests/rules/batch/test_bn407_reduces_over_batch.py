import pytest
from rule_subjects import call, computed_norm, flow, followed, mark, only, onnx_norm, outcome, paths

from bn_audit.rules.batch.bn407_reduces_over_batch import RULE
from bn_audit.subject.finding import Confidence, Severity
from bn_audit.subject.norm import Mode, ModeOrigin

SPREAD = mark("mixes", "ReduceMean_2", "stddev", "ReduceMean over the batch axis")


@pytest.mark.parametrize("verdict", ["independent", "position", "size"])
def test_an_effect_that_reaches_no_output(verdict):
    finding = only(RULE, followed(flows=(flow(verdict, node="n"),), marks=(SPREAD,)))
    assert finding.message == (
        "1 node combines values of different samples, no output depends on it: ReduceMean over the batch axis at "
        "'stddev'"
    )
    assert (finding.severity, finding.confidence) == (Severity.WARNING, Confidence.HIGH)
    assert paths(finding) == ["stddev"]


def test_an_effect_that_may_reach_an_undecided_output():
    audited = followed(flows=(flow("independent"), flow("undecided", "z", "NonZero_1")), marks=(SPREAD,))
    finding = only(RULE, audited)
    assert "not decided" in finding.message
    assert finding.confidence is Confidence.MEDIUM
    assert finding.evidence["undecided_outputs"] == ["z"]


def test_where_an_output_depends_on_companions_that_is_the_finding():
    assert outcome(RULE, followed(flows=(flow("mixes", node="MatMul_1"),), marks=(SPREAD,))) == []


@pytest.mark.parametrize(
    "layer",
    [
        onnx_norm("stddev", Mode.TRAIN),
        computed_norm("stddev"),
        call("stddev", Mode.TRAIN, ModeOrigin.EXPORTED_ARGUMENT),
    ],
)
def test_batch_norms_are_left_to_their_own_rules(layer):
    assert outcome(RULE, followed(layer, flows=(flow("independent"),), marks=(SPREAD,))) == []
    other = mark("mixes", "Max_1", "head")
    assert paths(only(RULE, followed(layer, flows=(flow("independent"),), marks=(SPREAD, other)))) == ["head"]


def test_a_batch_of_one_and_other_marks_are_silent():
    assert outcome(RULE, followed(flows=(flow("independent"),), marks=(SPREAD,), batch=1)) == []
    marks = (mark("quantises", "a"), mark("mixes", "a"), mark("fixed-batch", "b"), mark("position", "c"))
    assert outcome(RULE, followed(flows=(flow("independent"),), marks=marks)) == []


def test_models_are_judged_apart():
    flows = (flow("mixes", model="student"), flow("independent", model="teacher"))
    marks = (mark("mixes", "a", model="student"), mark("mixes", "b", model="teacher"))
    finding = only(RULE, followed(flows=flows, marks=marks))
    assert [location.model for location in finding.locations] == ["teacher"]
