import pytest
from rule_subjects import declaring, flow, followed, mark, only, outcome, paths

from bn_audit.rules.batch.bn404_batch_baked_in import RULE
from bn_audit.subject.finding import Severity

RESHAPE = mark("fixed-batch", "Reshape_5", "neck", "Reshape to (1, 256)")
INDEPENDENT = (flow("independent"),)


def test_a_fixed_reshape_behind_a_free_batch_axis():
    finding = only(RULE, followed(flows=INDEPENDENT, marks=(RESHAPE,)))
    assert finding.message == (
        "1 node fixes the batch size in a graph that declares it free: Reshape to (1, 256) at 'neck'"
    )
    assert finding.severity is Severity.ERROR
    assert paths(finding) == ["neck"]


def test_several_nodes_are_one_finding_and_each_node_counts_once():
    marks = (RESHAPE, RESHAPE, mark("fixed-batch", "Expand_2"))
    finding = only(RULE, followed(flows=INDEPENDENT, marks=marks, batch=None))
    assert finding.message.startswith("2 nodes fix ")
    assert [location.node for location in finding.locations] == ["Reshape_5", "Expand_2"]


def test_one_free_input_is_a_promise():
    assert only(RULE, followed(marks=(RESHAPE,), graphs={"": declaring(1, "batch")}))


@pytest.mark.parametrize("batch", [1, 6])
def test_an_honestly_static_graph_is_silent(batch):
    assert outcome(RULE, followed(flows=INDEPENDENT, marks=(RESHAPE,), batch=batch)) == []


def test_a_graph_that_declares_no_shape_promises_nothing():
    assert outcome(RULE, followed(flows=INDEPENDENT, marks=(RESHAPE,), graphs={"": declaring()})) == []


def test_other_marks_are_silent():
    assert outcome(RULE, followed(marks=(mark("mixes", "a"), mark("quantises", "b"), mark("size", "c")))) == []
