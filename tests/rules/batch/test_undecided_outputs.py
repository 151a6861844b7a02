"""What the proof could not decide is no finding and is still said."""

import pytest
from rule_subjects import flow, followed, graph, outcome

from bn_audit.rules.batch import (
    bn401_depends_on_companions,
    bn402_depends_on_batch_size,
    bn404_batch_baked_in,
    bn405_dynamic_quantisation_couples,
    bn407_reduces_over_batch,
    bn409_depends_on_position,
)

ASKING = [
    bn401_depends_on_companions.RULE,
    bn402_depends_on_batch_size.RULE,
    bn409_depends_on_position.RULE,
]
OTHERS = [bn404_batch_baked_in.RULE, bn405_dynamic_quantisation_couples.RULE, bn407_reduces_over_batch.RULE]
NONZERO = {"node": "NonZero_4", "why": "operator NonZero gives a shape that depends on the data"}


@pytest.mark.parametrize("rule", ASKING, ids=lambda rule: rule.code)
def test_an_undecided_output_is_named_with_the_reason(rule):
    audited = followed(flows=(flow("undecided", "boxes", **NONZERO), flow("independent", "scores")))
    assert outcome(rule, audited) == []
    assert list(rule.open_questions(audited)) == [
        "batch flow undecided for output 'boxes': operator NonZero gives a shape that depends on the data at "
        "'NonZero_4'"
    ]


def test_outputs_with_one_reason_are_one_line():
    flows = (*(flow("undecided", f"y{index}", **NONZERO) for index in range(5)), flow("undecided", "z", "Custom_1"))
    reasons = list(ASKING[0].open_questions(followed(flows=flows)))
    assert reasons == [
        "batch flow undecided for outputs 'y0', 'y1', 'y2' and 2 more: operator NonZero gives a shape that depends on "
        "the data at 'NonZero_4'",
        "batch flow undecided for output 'z': the flow is not known at 'Custom_1'",
    ]


def test_the_three_rules_give_the_same_lines_so_that_they_are_reported_together():
    audited = followed(flows=(flow("undecided", "boxes", **NONZERO, model="detector"),))
    lines = {tuple(rule.open_questions(audited)) for rule in ASKING}
    assert len(lines) == 1
    assert "output 'boxes' of 'detector'" in lines.pop()[0]


def test_decided_outputs_leave_nothing_open():
    decided = tuple(flow(verdict, verdict, "n") for verdict in ("independent", "mixes", "position", "size"))
    for rule in (*ASKING, *OTHERS):
        assert list(rule.open_questions(followed(flows=decided))) == []


def test_a_graph_that_was_not_followed_leaves_nothing_open_beyond_the_missing_fact():
    for rule in ASKING:
        assert list(rule.open_questions(graph())) == []
