"""What each closed form is judged to be, in both tiers."""

from __future__ import annotations

import time

import numpy as np
import pytest
from closed_forms import (
    FEATURES,
    ClosedForm,
    PlainPlan,
    constant,
    job,
    refusing,
    row_wise,
    squeezed,
    with_capacity,
    with_counter,
    with_dropout,
    with_maximum,
    with_mean,
    with_position,
    with_predecessor,
    with_rerouting,
    with_rounding,
    with_size,
    with_training_norm,
)

from bn_audit.errors import RunError
from bn_audit.measuring.measurement import OutOfTimeError, Steps, measure, measured
from bn_audit.subject.observation import Observation, Place
from bn_audit.subject.run import Calls, Localisation


def observed(session: ClosedForm, plan: PlainPlan | None = None, **changes: object) -> Observation:
    return measured(job(**changes), session, plan or PlainPlan(), lambda what, passes: None)


def both(session_of, **changes: object) -> list[Observation]:
    return [observed(session_of(), tier=tier, **changes) for tier in ("quick", "full")]


def test_rows_that_know_nothing_of_each_other_are_independent() -> None:
    for seen in both(lambda: ClosedForm(row_wise)):
        assert (seen.verdict, seen.flags, seen.effect, seen.rounding_only) == ("independent", (), None, None)
        assert [row.max_rel for row in seen.sizes] == [0.0] * 4
        assert [row.batch_size for row in seen.sizes] == [1, 2, 3, 8]
        assert seen.reference_size == 8


def test_rounding_between_sizes_and_rows_is_no_dependence() -> None:
    for seen in both(lambda: ClosedForm(with_rounding)):
        assert seen.verdict == "independent"
        assert 1e-7 < seen.rounding_only < 1e-5
        assert max(row.max_rel for row in seen.sizes) > 0


def test_rounding_without_double_precision_is_judged_by_the_response_to_one_ulp() -> None:
    seen = observed(ClosedForm(with_rounding, doubles=False))
    assert seen.verdict == "independent"
    assert seen.noise_floor == pytest.approx(10 * 2**-23, rel=9)


def test_a_neighbour_that_only_changes_rounding_is_no_dependence() -> None:
    for seen in both(lambda: ClosedForm(with_rerouting, trace=lambda x: str(x[:, 0] > 0))):
        assert seen.verdict == "independent"
        assert seen.rounding_only > 0


@pytest.mark.parametrize("weight", [0.3, 1e-3, 1e-5, 1e-6])
def test_a_share_of_the_mean_is_content_however_small(weight: float) -> None:
    for seen in both(lambda: ClosedForm(with_mean(weight))):
        assert seen.verdict == "content"
        assert weight / 20 < seen.effect < weight * 20  # companions ten times as large


def test_the_effect_is_that_of_the_closed_form() -> None:
    """y = x + mean(x)/2: with other companions row i moves by half the difference of the means."""
    session, plan = ClosedForm(with_mean(0.5)), PlainPlan()
    seen = observed(session, plan, tier="quick", batch_sizes=(4,))
    base, other = plan.draw(4, 0)["x"].astype(np.float64), plan.draw(4, 1)["x"].astype(np.float64)
    expected = []
    for index in (0, 3):
        swapped = other.copy()
        swapped[index] = base[index]
        gap = np.abs(base.mean(0) - swapped.mean(0)).max() / 2
        expected.append(gap / np.abs(base[index] + base.mean(0) / 2).max())
    assert seen.effect == pytest.approx(max(expected), rel=1e-5)


def test_a_row_that_depends_on_its_predecessors_only_is_content() -> None:
    for seen in both(lambda: ClosedForm(with_predecessor)):
        assert seen.verdict == "content"
        assert "row 0" not in seen.why


def test_scaled_companions_find_what_fresh_ones_do_not() -> None:
    quick, full = both(lambda: ClosedForm(with_maximum))
    assert quick.verdict == "independent"
    assert "does not compare positions" in quick.why
    assert full.verdict == "content"
    assert "ten times" in full.why


def test_the_quick_tier_goes_on_where_sizes_differ_too_much() -> None:
    def forward(x, state):
        return with_size(with_maximum(x, state), state)

    seen = observed(ClosedForm(forward), tier="quick")
    assert (seen.verdict, "ten times" in seen.why) == ("content", True)


@pytest.mark.parametrize("seed", range(6))
def test_a_capacity_is_content_and_not_position_only(seed: int) -> None:
    assert observed(ClosedForm(with_capacity), seed=seed).verdict == "content"


def test_an_index_is_position_and_a_count_is_size() -> None:
    assert observed(ClosedForm(with_position)).verdict == "position"
    for seen in both(lambda: ClosedForm(with_size)):
        assert seen.verdict == "size"
        assert seen.effect == pytest.approx(1 - 1.05 / 1.4, rel=1e-5)


@pytest.mark.parametrize("forward, verdict", [(with_position, "position"), (with_size, "size")])
def test_position_and_size_are_found_without_double_precision(forward, verdict: str) -> None:
    assert observed(ClosedForm(forward, doubles=False)).verdict == verdict


def test_dropout_is_randomness_and_not_dependence() -> None:
    for seen in both(lambda: ClosedForm(with_dropout)):
        assert (seen.verdict, seen.flags) == ("independent", ("rng",))
        assert seen.repeat_effect == 0
        assert seen.seed_effect > 0
        assert all(row.max_rel is None for row in seen.sizes)


def test_dropout_does_not_hide_dependence() -> None:
    def both_faults(x, state):
        return with_mean(0.3)(with_dropout(x, state), state)

    for seen in both(lambda: ClosedForm(both_faults)):
        assert (seen.verdict, seen.flags) == ("content", ("rng",))


def test_a_counter_is_state_and_not_dependence() -> None:
    for seen in both(lambda: ClosedForm(with_counter, changed=("calls",))):
        assert (seen.verdict, seen.flags) == ("independent", ("stateful", "mutates-state"))
        assert seen.second_call_effect == pytest.approx(0.01, rel=1e-4)
        assert seen.drifting == ("calls",)
        assert seen.buffers_changed == ("calls",)
        assert seen.norm_buffers_changed == ()


def test_what_gives_other_answers_to_equal_runs_is_not_certified() -> None:
    ticks = iter(range(10**6))
    seen = observed(ClosedForm(lambda x, state: x * (1 + 0.01 * (next(ticks) % 7)).__float__()))
    assert seen.verdict == "inconclusive"
    assert seen.flags == ("rng",)


def test_dependence_beyond_what_equal_runs_differ_is_found() -> None:
    ticks = iter(range(10**6))
    seen = observed(ClosedForm(lambda x, state: with_mean(0.5)(x, state) * np.float32(1 + 1e-6 * (next(ticks) % 7))))
    assert seen.verdict == "content"


def test_a_lost_axis_and_a_refused_size_are_told() -> None:
    for seen in both(lambda: ClosedForm(squeezed)):
        assert seen.lost_at == (1,)
        assert seen.verdict == "independent"
    for seen in both(lambda: ClosedForm(refusing(1))):
        assert seen.fails_at_one == "no batch of 1"
        assert seen.verdict == "independent"


def test_a_size_that_fails_is_no_certificate() -> None:
    for seen in both(lambda: ClosedForm(refusing(1, 2, 3))):
        assert seen.verdict == "cannot-run"
        assert "fails at batch size 2, 3" in seen.why
        assert [row.status for row in seen.sizes] == ["failed", "failed", "failed", "ok"]


def test_where_the_largest_size_fails_the_next_one_serves() -> None:
    seen = observed(ClosedForm(refusing(8)))
    assert seen.reference_size == 3
    assert [row.status for row in seen.sizes] == ["ok", "ok", "ok", "failed"]


def test_a_model_that_fails_everywhere_cannot_be_measured() -> None:
    with pytest.raises(RunError, match="no batch of 8"):
        observed(ClosedForm(refusing(1, 2, 3, 8)))


def test_a_batch_fixed_at_one_has_no_companions() -> None:
    for seen in both(lambda: ClosedForm(row_wise, fixed_batch=1)):
        assert seen.verdict == "inconclusive"
        assert seen.why.startswith("batch fixed at 1")
        assert seen.fixed_batch == 1


def test_a_batch_fixed_at_more_is_tested_as_it_is() -> None:
    assert observed(ClosedForm(with_mean(0.3), fixed_batch=4)).verdict == "content"
    assert observed(ClosedForm(row_wise, fixed_batch=4)).verdict == "independent"


def test_answers_that_are_all_alike_certify_nothing() -> None:
    for seen in both(lambda: ClosedForm(constant)):
        assert (seen.verdict, seen.is_untrained) == ("inconclusive", True)


def test_an_untrained_model_is_not_certified_but_found_guilty() -> None:
    calls = Calls(norm_calls=2, registered=2, untrained=True)
    assert observed(ClosedForm(row_wise, counted=calls)).verdict == "inconclusive"
    assert observed(ClosedForm(with_mean(0.1), counted=calls)).verdict == "content"


def test_calls_that_cannot_be_counted_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_batch: object, seed: int) -> Calls:
        raise RunError("not under observation")

    monkeypatch.setattr(ClosedForm, "calls", fails)
    [remark] = [item for item in observed(ClosedForm(row_wise)).remarks if "norm and dropout calls" in item]
    assert remark == "not measured, norm and dropout calls of one pass: not under observation"


def test_outputs_without_an_axis_of_samples_are_named() -> None:
    def forward(x, state):
        return {"loss": x.mean(keepdims=False), "y": row_wise(x, state)}

    seen = observed(ClosedForm(forward))
    assert seen.verdict == "independent"
    assert any("loss" in remark for remark in seen.remarks)
    alone = observed(ClosedForm(lambda x, state: {"loss": x.mean()}))
    assert alone.verdict == "inconclusive"


def test_the_axis_of_samples_is_found_where_it_is_not_the_first() -> None:
    seen = observed(ClosedForm(lambda x, state: with_mean(0.2)(x, state).T))
    assert (seen.verdict, seen.outputs[0].batch_axis) == ("content", 1)


def test_norm_layers_that_take_the_dependence_away_are_named() -> None:
    session = ClosedForm(with_training_norm, norm_paths=("stem", "bn", "head"), training=("bn",))
    seen = observed(session)
    assert (seen.verdict, seen.restored_by) == ("content", ("bn",))
    assert seen.mode_gap > 0.01


def test_without_norm_layers_to_blame_none_is_named() -> None:
    assert observed(ClosedForm(with_mean(0.3), norm_paths=("bn",))).restored_by == ()


def test_mixing_that_never_reaches_the_answer_is_latent() -> None:
    hidden = Localisation(overlaps=(Place(path="layer1.bn"),))
    seen = observed(ClosedForm(row_wise, where=hidden))
    assert (seen.verdict, seen.latent) == ("independent", (Place(path="layer1.bn"),))
    guilty = observed(
        ClosedForm(with_mean(0.3), where=Localisation(first=Place(path="a"), overlaps=(Place(path="a"),)))
    )
    assert (guilty.first_divergence, guilty.latent) == (Place(path="a"), ())


def test_the_other_form_of_the_model_is_compared() -> None:
    def halved(x, state):
        return row_wise(x, state) / 2

    assert observed(ClosedForm(row_wise, other=ClosedForm(halved))).optimisation_effect == pytest.approx(0.5)
    assert observed(ClosedForm(row_wise, other=ClosedForm(row_wise))).optimisation_effect == 0.0
    seen = observed(ClosedForm(with_dropout, other=ClosedForm(row_wise)))
    assert seen.optimisation_effect is None
    assert any("removes live randomness" in remark for remark in seen.remarks)


def test_padding_that_changes_an_answer_is_measured() -> None:
    def mean_over_features(x, state):
        return row_wise(x, state) + x.mean(axis=1, keepdims=True)

    assert observed(ClosedForm(mean_over_features), PlainPlan(pads=True)).padding_effect > 0.01
    assert observed(ClosedForm(row_wise), PlainPlan(pads=True)).padding_effect == 0.0
    assert observed(ClosedForm(row_wise)).padding_effect is None


def test_tokens_are_not_scaled() -> None:
    session = ClosedForm(row_wise)
    seen = observed(session, PlainPlan(has_floats=False))
    assert "6 exchanges" in seen.why


@pytest.mark.parametrize("low, verdict", [(False, "size"), (True, "size")])
def test_a_small_factor_is_size_even_where_double_precision_is_none(low: bool, verdict: str) -> None:
    def forward(x, state):
        return x * x.dtype.type(1 + 2e-6 * len(x))

    assert observed(ClosedForm(forward, low_precision=low)).verdict == verdict


def test_a_double_that_rounds_in_another_direction_proves_nothing() -> None:
    def forward(x, state):
        noise = np.random.default_rng(len(x) + 100 * (x.dtype == np.float64)).standard_normal(x.shape)
        return (x.astype(np.float64) * (1 + 3e-7 * noise)).astype(np.float32)

    assert observed(ClosedForm(forward, low_precision=True)).verdict == "independent"


def test_the_quick_tier_takes_four_passes_and_one_for_every_other_size() -> None:
    session = ClosedForm(row_wise)
    observed(session, tier="quick")
    assert session.passes == 4 + 3


def test_the_full_tier_takes_what_the_protocol_says() -> None:
    session = ClosedForm(row_wise)
    observed(session)
    assert session.passes <= 26


def test_forward_passes_are_counted_and_steps_announced() -> None:
    session, said = ClosedForm(row_wise), []
    seen = measure(job(tier="quick"), session, lambda what, passes: said.append((what, passes)))
    assert seen.forwards == session.passes
    assert [passes for _what, passes in said] == sorted(passes for _what, passes in said)
    assert "batch size 2" in dict(said)


def test_a_step_that_ended_an_earlier_process_fails_with_its_reason() -> None:
    seen = measure(job(tier="quick"), ClosedForm(row_wise), lambda *_: None, lost={"batch size 1": "it crashed"})
    assert seen.fails_at_one == "it crashed"
    assert seen.verdict == "independent"


def test_the_time_limit_ends_the_measurement() -> None:
    steps = Steps(say=lambda *_: None, deadline=time.monotonic() - 1, time_limit=3.0)
    with pytest.raises(OutOfTimeError, match=r"time limit of 3 s.*--time-limit"):
        measured(job(), ClosedForm(row_wise), PlainPlan(), steps)


def test_the_time_limit_in_the_middle_is_not_taken_for_the_models_failure() -> None:
    def say(what: str, passes: int) -> None:
        if what == "batch size 2":
            raise OutOfTimeError("time")

    with pytest.raises(OutOfTimeError):
        measured(job(), ClosedForm(row_wise), PlainPlan(), say)


def test_equal_measurements_are_equal() -> None:
    first, second = (observed(ClosedForm(with_mean(1e-3)), seed=7) for _ in range(2))
    assert first == second
    assert observed(ClosedForm(with_mean(1e-3)), seed=8).effect != first.effect


def test_inputs_are_told_without_their_batch_axis() -> None:
    (used,) = observed(ClosedForm(row_wise)).inputs
    assert (used.name, used.shape, used.origin) == ("x", (FEATURES,), "the test")
