"""BN105, BN106 and BN307: what norm layers really do when the model runs."""

import pytest
from rule_subjects import batch_norm, observation, only, onnx_norm, outcome, ran

from bn_audit.rules.graph.bn307_output_drifts import RULE as BN307
from bn_audit.rules.mode.bn105_buffers_change_in_inference import RULE as BN105
from bn_audit.rules.mode.bn106_norm_outside_registry_at_run_time import RULE as BN106
from bn_audit.rules.random.bn501_not_repeatable import RULE as BN501
from bn_audit.subject.finding import Severity
from bn_audit.subject.norm import Mode
from bn_audit.subject.observation import Place

MOVED = ("bn.running_mean", "bn.running_var", "bn.num_batches_tracked")


def moved(*names, **changes):
    return observation(buffers_changed=names, norm_buffers_changed=names, **changes)


def test_statistics_that_move_in_evaluation_mode():
    finding = only(BN105, ran(batch_norm("bn"), batch_norm("other"), run=moved(*MOVED)))
    assert finding.message == (
        "a forward pass changed the running statistics of 1 norm layer that is not in training mode"
    )
    assert [place.path for place in finding.locations] == ["bn"]
    assert finding.severity is Severity.ERROR


def test_statistics_of_a_layer_that_the_artifact_does_not_know():
    assert only(BN105, ran(run=moved("hidden.running_mean", "more.running_mean"))).evidence["layers"] == 2


@pytest.mark.parametrize(
    "norm", [batch_norm("bn", Mode.TRAIN), batch_norm("again", Mode.TRAIN, aliases=("bn",))], ids=["itself", "alias"]
)
def test_a_layer_that_is_declared_to_train_is_told_by_its_mode(norm):
    assert outcome(BN105, ran(norm, run=moved(*MOVED))) == []


def test_nothing_moved_or_something_else():
    assert outcome(BN105, ran(batch_norm("bn"))) == []
    assert outcome(BN105, ran(batch_norm("bn"), run=observation(buffers_changed=("calls",)))) == []


def test_calls_from_no_registered_layer():
    places = (Place(op="aten.native_batch_norm.default", type_name="Net"), Place(path="stem", op="aten.batch_norm"))
    finding = only(BN106, ran(batch_norm(), run=observation(unregistered_norms=places, norm_calls=3)))
    assert finding.message == (
        "2 of 3 norm calls of a forward pass come from no registered layer: the model's own code (Net, "
        "aten.native_batch_norm.default), 'stem' (aten.batch_norm)"
    )
    assert finding.evidence["cause"] is None


def test_layers_in_a_list_are_named_as_the_cause():
    audited = ran(batch_norm(registered=False), run=observation(unregistered_norms=(Place(path="norms"),)))
    assert only(BN106, audited).message.endswith("(see BN108)")


@pytest.mark.parametrize("changes", [{}, {"norm_calls": 9, "registered_norms": 3}, {"norm_calls": None}])
def test_layers_that_are_called_several_times_are_all_registered(changes):
    assert outcome(BN106, ran(batch_norm(), run=observation(**changes))) == []


def test_a_runtime_that_overwrites_statistics():
    run = observation(
        "independent",
        flags=("stateful", "mutates-state"),
        second_call_effect=0.02,
        drifting=("bn.running_mean",),
        buffers_changed=("bn.running_mean",),
        norm_buffers_changed=("bn.running_mean",),
        runner="onnxruntime",
    )
    audited = ran(onnx_norm("bn"), run=run)
    finding = only(BN307, audited)
    assert finding.message == (
        "identical calls give different outputs, by 2% of the largest output at the second call: onnxruntime "
        "overwrites 'bn.running_mean'"
    )
    assert finding.locations[0].tensor == "bn.running_mean"
    assert outcome(BN105, audited) == outcome(BN501, audited) == []


def test_a_module_that_changes_itself_is_no_fault_of_a_runtime():
    run = moved(*MOVED, flags=("stateful", "mutates-state"), second_call_effect=0.02, drifting=MOVED)
    audited = ran(batch_norm("bn"), run=run)
    assert outcome(BN307, audited) == []
    assert only(BN105, audited)
    assert only(BN501, audited).message.endswith("(see BN105)")


def test_a_graph_whose_statistics_stay_does_not_drift():
    assert outcome(BN307, ran(onnx_norm("bn"), run=observation(flags=("mutates-state",)))) == []
