import pytest
from rule_subjects import flow, followed, mark, only, outcome

from bn_audit.rules.batch.bn405_dynamic_quantisation_couples import RULE
from bn_audit.subject.finding import Severity

FIRST = mark("quantises", "Quantize_0", "encoder.0", "DynamicQuantizeLinear takes one range for all samples")
SECOND = mark("quantises", "Quantize_1", "encoder.1")


def test_nodes_with_one_range_for_the_batch():
    audited = followed(flows=(flow("mixes", node="Quantize_0"), flow("independent", "mask")), marks=(FIRST, SECOND))
    finding = only(RULE, audited)
    assert finding.message == (
        "2 nodes take one activation range for the whole batch: DynamicQuantizeLinear takes one range for all samples "
        "at 'encoder.0'"
    )
    assert finding.severity is Severity.WARNING
    assert finding.evidence == {"nodes": 2, "coupled": 1, "outputs": ["y"]}


def test_a_static_batch_of_several_samples_couples_too():
    assert only(RULE, followed(flows=(flow("independent"),), marks=(FIRST,), batch=8)).evidence["coupled"] == 0


def test_a_batch_of_one_has_a_range_of_its_own():
    assert outcome(RULE, followed(flows=(flow("mixes", node="Quantize_0"),), marks=(FIRST,), batch=1)) == []


@pytest.mark.parametrize("kind", ["mixes", "fixed-batch", "position", "size"])
def test_other_marks_are_silent(kind):
    assert outcome(RULE, followed(flows=(flow("independent"),), marks=(mark(kind, "a"),))) == []
