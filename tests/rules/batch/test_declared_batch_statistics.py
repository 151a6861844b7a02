"""A layer that is declared to use the batch must not hide samples that meet elsewhere."""

from rule_subjects import call, flow, followed, mark, only, paths

from bn_audit.rules.batch.bn401_depends_on_companions import RULE
from bn_audit.subject.design import Design
from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin

NORM = {"node": "batch_norm", "path": "net.1"}
MEAN = {"node": "mean", "path": "mix", "why": "Mean over the batch axis"}
DECLARED = frozenset({Design.BATCH_STATISTICS})


def network(*marks, **changes):
    norm = call("net.1", Mode.TRAIN, ModeOrigin.EXPORTED_ARGUMENT, input_origin=InputOrigin.ACTIVATIONS)
    return followed(norm, flows=(flow("mixes", **NORM),), marks=marks, **changes)


def test_samples_that_meet_elsewhere_are_named_in_place_of_the_declared_layer():
    finding = only(RULE, network(mark("mixes", **NORM), mark("mixes", **MEAN), declared=DECLARED))
    assert paths(finding) == ["mix"]
    assert finding.message == "output 'y' depends on the other samples of the batch: Mean over the batch axis at 'mix'"
    assert finding.evidence["cause"] == "BN407"
    assert finding.confidence is Confidence.MEDIUM, "the proof blames the layer; whether the mean matters is not proved"


def test_where_the_declared_layers_are_all_they_are_named():
    audited = network(mark("mixes", **NORM), mark("fixed-batch", "Reshape_1", "head"), declared=DECLARED)
    assert paths(only(RULE, audited)) == ["net.1"]


def test_without_the_declaration_the_layer_comes_first():
    for declared in (frozenset(), frozenset({Design.MC_DROPOUT})):
        finding = only(RULE, network(mark("mixes", **NORM), mark("mixes", **MEAN), declared=declared))
        assert paths(finding) == ["net.1"]
        assert finding.confidence is Confidence.HIGH
