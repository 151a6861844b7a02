"""BN501, BN502 and BN505: answers that change although the batch does not."""

import pytest
from rule_subjects import batch_norm, dropout, observation, only, onnx_norm, outcome, ran, random_call

from bn_audit.rules.random.bn501_not_repeatable import RULE as BN501
from bn_audit.rules.random.bn502_ungated_dropout import RULE as BN502
from bn_audit.rules.random.bn505_state_changes_in_inference import RULE as BN505
from bn_audit.subject.finding import Severity
from bn_audit.subject.observation import Place


def test_an_answer_that_follows_the_seed():
    finding = only(BN501, ran(batch_norm(), run=observation(flags=("rng",), seed_effect=0.8)))
    assert finding.message == "the answer changes with the random seed by 80% of the largest output"
    assert finding.severity is Severity.ERROR
    assert finding.evidence["other_seed"] == 0.8


def test_an_answer_that_nothing_controls():
    finding = only(BN501, ran(run=observation("inconclusive", flags=("rng",), repeat_effect=1e-3, seed_effect=1e-3)))
    assert finding.message.startswith("two runs with the same seed differ by 0.1%")


@pytest.mark.parametrize(
    ("calls", "changes", "code"),
    [
        ((dropout(),), {}, "BN504"),
        ((), {"ungated_dropout": (Place(path="head"),)}, "BN502"),
    ],
)
def test_the_rule_that_knows_why_is_named(calls, changes, code):
    run = observation(flags=("rng",), seed_effect=0.8, **changes)
    finding = only(BN501, ran(onnx_norm("a"), run=run, random_calls=calls))
    assert finding.message.endswith(f"(see {code})")
    assert finding.evidence["causes"] == [code]
    assert finding.severity is Severity.ERROR


def test_a_sampling_model_is_a_warning_and_with_dropout_it_is_not():
    run = observation(flags=("rng",), seed_effect=0.8)
    assert only(BN501, ran(run=run, random_calls=(random_call(),))).severity is Severity.WARNING
    assert only(BN501, ran(run=run, random_calls=(random_call(), dropout()))).severity is Severity.ERROR
    assert only(BN501, ran(run=run, random_calls=(random_call(live=False),))).severity is Severity.ERROR


def test_an_answer_that_follows_what_ran_before():
    run = observation(flags=("stateful", "mutates-state"), second_call_effect=0.1, buffers_changed=("calls",))
    finding = only(BN501, ran(run=run))
    assert finding.message.endswith("the model keeps state between calls (see BN505)")
    told = only(BN505, ran(run=run))
    assert told.message == (
        "a forward pass changes 1 stored tensor ('calls'), and a second call answers otherwise by 10%"
    )
    assert told.severity is Severity.WARNING


@pytest.mark.parametrize("flags", [(), ("mutates-state",)])
def test_repeatable_answers(flags):
    assert outcome(BN501, ran(run=observation(flags=flags))) == []


def test_dropout_in_evaluation_mode():
    place = Place(path="head", type_name="shop.Head", op="aten.native_dropout.default")
    finding = only(BN502, ran(run=observation(flags=("rng",), ungated_dropout=(place,))))
    assert finding.message == ("1 dropout call draws in evaluation mode: 'head' (Head, aten.native_dropout.default)")
    assert [where.path for where in finding.locations] == ["head"]
    many = tuple(Place(path=f"blocks.{index}") for index in range(5))
    assert "'blocks.2' and 2 more" in only(BN502, ran(run=observation(ungated_dropout=many))).message


def test_dropout_that_follows_its_module_is_silent():
    assert outcome(BN502, ran(batch_norm())) == []
    assert outcome(BN502, ran(run=observation(flags=("rng",), seed_effect=0.4))) == []


def test_state_without_effect_on_the_answer():
    finding = only(BN505, ran(run=observation(buffers_changed=("conv.weight_u", "conv.weight_v"))))
    assert finding.message == (
        "a forward pass changes 2 stored tensors ('conv.weight_u', 'conv.weight_v'), without effect on the answer"
    )
    assert [place.tensor for place in finding.locations] == ["conv.weight_u", "conv.weight_v"]


@pytest.mark.parametrize(
    ("changed", "statistics"),
    [
        ((), ()),
        (("bn.running_mean", "bn.num_batches_tracked"), ("bn.running_mean",)),
        (("bn.running_mean", "bn.running_var"), ("bn.running_mean", "bn.running_var")),
    ],
)
def test_statistics_and_their_counters_are_other_rules(changed, statistics):
    run = observation(buffers_changed=changed, norm_buffers_changed=statistics)
    assert outcome(BN505, ran(batch_norm("bn"), run=run)) == []


def test_a_counter_without_statistics_is_state_like_any_other():
    run = observation(buffers_changed=("steps.num_batches_tracked",))
    assert only(BN505, ran(run=run)).evidence["tensors"] == ["steps.num_batches_tracked"]


def test_a_runtime_whose_optimised_form_answers_differently_is_a_warning():
    finding = only(BN501, ran(run=observation(optimisation_effect=0.02)))
    assert finding.severity is Severity.WARNING
    assert "optimised form of the model answers differently by 2%" in finding.message
    assert "switch the optimisation off" in finding.remedy


def test_what_optimisation_deletes_is_told_as_randomness_alone():
    finding = only(BN501, ran(run=observation(flags=("rng",), seed_effect=0.8, optimisation_effect=0.8)))
    assert finding.severity is Severity.ERROR
    assert "random seed" in finding.message
