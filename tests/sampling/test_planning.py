"""Finding inputs on which a model runs: from what it declares, from the user, or by trying."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from sessions import Stub, anything, job, of_shape

from bn_audit.errors import RunError, UnsupportedRunError, UsageError
from bn_audit.sampling import planning
from bn_audit.sampling.planning import plan_inputs
from bn_audit.subject.run import InputSpec


def spec(name="x", dtype="float32", shape=("N", 3, "h", "w"), **changes):
    return InputSpec(name=name, dtype=dtype, shape=shape, **changes)


IMAGE = (spec(origin="the graph"),)


def shapes(plan):
    return {item.name: item.shape for item in plan.specs}


def test_open_sizes_are_tried_until_the_model_runs():
    session = Stub([IMAGE], of_shape(x=(3, 224, 224)))
    plan = plan_inputs(session, job())
    assert shapes(plan) == {"x": (None, 3, 224, 224)}
    assert plan.specs[0].origin == "the graph; chosen: 'h' = 224, 'w' = 224; values drawn"
    assert [batch["x"].shape[0] for batch in session.batches] == [2, 2]
    assert plan.tries == 2


@pytest.mark.parametrize(
    ("candidate", "wanted"),
    [
        (spec(shape=(None, None, None, None)), (1, 28, 28)),
        (spec(shape=("N", "channels", 32, 32)), (4, 32, 32)),
        (spec(shape=("N", "features")), (784,)),
        (spec(shape=("N", "sequence", 64)), (128, 64)),
        (spec(shape=("N", 80, "time")), (80, 100)),
        (spec(shape=(None, None, None)), (16, 64)),
        (spec(shape=("N",)), ()),
    ],
)
def test_sizes_by_rank_and_name(candidate, wanted):
    assert plan_inputs(Stub([(candidate,)], of_shape(x=wanted)), job()).specs[0].shape == (None, *wanted)


def test_a_symbol_has_one_size_everywhere_and_axes_without_a_name_go_together():
    pair = (spec("ids", "int64", (None, "seq"), highest=50), spec("attention_mask", "int64", (None, "seq")))
    plan = plan_inputs(Stub([pair], of_shape(ids=(64,), attention_mask=(64,))), job())
    assert shapes(plan) == {"ids": (None, 64), "attention_mask": (None, 64)}
    unnamed = (spec("a", "int64", (None, None), highest=50), spec("b", "int64", (None, None), highest=50))
    assert shapes(plan_inputs(Stub([unnamed], anything), job())) == {"a": (None, 16), "b": (None, 16)}


def test_candidates_are_tried_in_order():
    session = Stub([(spec(shape=("N", 7)),), (spec(shape=("N", 9)),)], of_shape(x=(9,)))
    assert plan_inputs(session, job()).specs[0].shape == (None, 9)


def test_the_user_describes_one_sample():
    session = Stub([IMAGE], of_shape(x=(3, 48, 40)))
    plan = plan_inputs(session, job(inputs=("picture=float16:3x48x40",)))
    assert shapes(plan) == {"x": (None, 3, 48, 40)}
    assert plan.specs[0].dtype == "float16"
    assert plan.specs[0].origin == "--input; values drawn"
    assert len(session.batches) == 1


def test_the_user_describes_one_of_several_inputs():
    pair = (spec("ids", "int64", (None, None), highest=30), spec("scale", "float32", (None, 4)))
    plan = plan_inputs(Stub([pair], of_shape(ids=(5,), scale=(4,))), job(inputs=("ids=int64:5",)))
    assert shapes(plan) == {"ids": (None, 5), "scale": (None, 4)}
    assert plan.draw(64, 0)["ids"].max() == 29


@pytest.mark.parametrize("length", ["seq", None])
def test_one_size_that_the_user_gives_settles_the_others(length):
    pair = (spec("ids", "int64", (None, length), highest=30), spec("attention_mask", "int64", (None, length)))
    session = Stub([pair], of_shape(ids=(37,), attention_mask=(37,)))
    assert shapes(plan_inputs(session, job(inputs=("ids=int64:37",))))["attention_mask"] == (None, 37)
    assert len(session.batches) == 1


def test_a_carried_sample_settles_the_symbols_of_other_inputs():
    pair = (spec("ids", "int64", (None, "seq"), sample=np.arange(11)[None]), spec("bias", shape=("N", 4, "seq")))
    plan = plan_inputs(Stub([pair], of_shape(ids=(11,), bias=(4, 11))), job())
    assert shapes(plan) == {"ids": (None, 11), "bias": (None, 4, 11)}


def test_open_sizes_of_images_have_nothing_to_do_with_each_other():
    pair = (spec("left", shape=("N", 3, None, None)), spec("right", shape=("N", 3, None, None)))
    session = Stub([pair], of_shape(left=(3, 40, 40), right=(3, 64, 64)))
    plan = plan_inputs(session, job(inputs=("left=float32:3x40x40",)))
    assert shapes(plan) == {"left": (None, 3, 40, 40), "right": (None, 3, 64, 64)}


def test_an_input_that_the_model_lacks():
    pair = (spec("ids", "int64", (None, 4)), spec("mask", "int64", (None, 4)))
    session = Stub([pair], lambda batch: None if set(batch) == {"ids", "mask"} else "unexpected input")
    with pytest.raises(RunError, match=r"^--input: the model has no input 'token'; its inputs are 'ids', 'mask'"):
        plan_inputs(session, job(inputs=("token=int64:4",)))


def test_the_user_alone_knows():
    plan = plan_inputs(Stub([], anything), job(inputs=("a=float32:2x3", "n=int64:")))
    batch = plan.draw(4, 0)
    assert (batch["a"].shape, batch["n"].shape, batch["n"].dtype) == ((4, 2, 3), (4,), np.int64)


def test_nobody_knows():
    with pytest.raises(RunError, match="--input NAME=DTYPE:SHAPE"):
        plan_inputs(Stub([], anything), job())


def test_a_bad_description_is_a_usage_error():
    with pytest.raises(UsageError, match="did you mean float32"):
        plan_inputs(Stub([IMAGE], anything), job(inputs=("x=f32:3",)))


def test_all_failures_become_one_message(monkeypatch):
    monkeypatch.setattr(planning, "MAX_TRIES", 20)
    with pytest.raises(RunError) as caught:
        plan_inputs(Stub([IMAGE], lambda _batch: "mat1 and mat2\n cannot be multiplied"), job())
    message = str(caught.value)
    assert "none of 20 tries succeeded: with x float32 2x3x64x64: mat1 and mat2 cannot be multiplied: give" in message
    assert "--input NAME=DTYPE:SHAPE" in message
    assert "\n" not in message


def test_many_kinds_of_failure_are_counted(monkeypatch):
    monkeypatch.setattr(planning, "MAX_TRIES", 8)
    with pytest.raises(RunError, match=r"; 5 more kinds of error: give"):
        plan_inputs(Stub([IMAGE], lambda batch: f"no {batch['x'].shape}"), job())


def test_what_was_given_and_fails_is_not_blamed_on_missing_input():
    with pytest.raises(RunError, match="does not run on the inputs given: with x float32 2x5: too few: correct them"):
        plan_inputs(Stub([(spec(shape=("N", 4)),)], lambda _batch: "too few"), job(inputs=("x=float32:5",)))


def test_what_the_backend_cannot_do_at_all_is_passed_on():
    def refuse(_batch):
        raise UnsupportedRunError("no float16 here")

    with pytest.raises(UnsupportedRunError, match="no float16"):
        plan_inputs(Stub([IMAGE], refuse), job())


def test_a_model_that_fails_at_two_samples_is_tried_at_the_largest_size_and_at_one():
    session = Stub([(spec(shape=("N", 4)),)], lambda batch: None if len(batch["x"]) in (1, 16) else "batch baked in")
    assert plan_inputs(session, job(batch_sizes=(1, 2, 16))).fixed_batch is None
    assert [len(batch["x"]) for batch in session.batches] == [2, 16]
    single = Stub([(spec(shape=("N", 4)),)], lambda batch: None if len(batch["x"]) == 1 else "batch baked in")
    plan_inputs(single, job())
    assert [len(batch["x"]) for batch in single.batches] == [2, 8, 1]


def test_a_fixed_batch_is_the_only_one_tried():
    session = Stub([(spec(shape=(6, 4)),)], anything, fixed_batch=6)
    plan = plan_inputs(session, job())
    assert plan.fixed_batch == 6
    assert [len(batch["x"]) for batch in session.batches] == [6]


def test_token_ids_shrink_until_they_are_known():
    embedding = Stub(
        [(spec("ids", "int64", (None, 12)),)], lambda batch: None if batch["ids"].max() < 60 else "index out of range"
    )
    plan = plan_inputs(embedding, job())
    assert "values below 10" in plan.specs[0].origin
    assert plan.draw(50, 0)["ids"].max() == 9


def test_on_a_device_an_index_out_of_range_is_never_risked():
    session = Stub([(spec("ids", "int64", (None, 12)),)], anything)
    plan_inputs(session, job(device="cuda"))
    assert all(batch["ids"].max() < 10 for batch in session.batches)


def test_names_tell_what_integers_mean():
    inputs = (
        spec("input_ids", "int64", (None, 8), highest=100),
        spec("attention_mask", "int64", (None, 8)),
        spec("token_type_ids", "int64", (None, 8)),
        spec("position_ids", "int64", (None, 8)),
        spec("lengths", "int64", (None,)),
    )
    batch = plan_inputs(Stub([inputs], anything), job()).draw(20, 0)
    assert (batch["position_ids"] == np.arange(8)).all()
    assert (batch["lengths"] == 8).all()
    assert set(np.unique(batch["token_type_ids"])) == {0, 1}
    mask = batch["attention_mask"]
    assert (np.diff(mask, axis=1) <= 0).all()
    assert (mask[:, :4] == 1).all()
    assert len(set(map(tuple, mask))) > 1


def test_a_carried_sample_gives_sizes_and_the_range_of_values():
    sample = np.random.default_rng(1).uniform(50, 60, (1, 3, 20, 20)).astype(np.float32)
    session = Stub([(spec(sample=sample, origin="its sample inputs"),)], of_shape(x=(3, 20, 20)))
    plan = plan_inputs(session, job())
    values = plan.draw(8, 0)["x"]
    assert plan.specs[0].origin == "its sample inputs; values drawn near the sample it carries"
    assert plan.tries == 1
    assert 50 < values.mean() < 60
    assert 0.5 < values.std() / sample.std() < 2
    assert len(np.unique(values.reshape(8, -1), axis=0)) == 8


@pytest.mark.parametrize("sample", [np.zeros((1, 4), np.float32), np.full((2, 4), np.nan, np.float32)])
def test_a_carried_sample_without_information_gives_only_its_shape(sample):
    values = plan_inputs(Stub([(spec(shape=("N", 4), sample=sample),)], anything), job()).draw(8, 0)["x"]
    assert np.isfinite(values).all()
    assert values.std() > 0.3


def test_carried_integers_keep_their_range_and_constants_stay_the_last_resort():
    varied = spec("ids", "int64", (None, 6), sample=np.array([[3, 9, 4, 5, 8, 3]]))
    values = plan_inputs(Stub([(varied,)], anything), job()).draw(50, 0)["ids"]
    assert (values.min(), values.max()) == (3, 9)
    constant = spec("kind", "int64", (None, 6), sample=np.full((1, 6), 7))
    picky = Stub([(constant,)], lambda batch: None if (batch["kind"] == 7).all() else "no such kind")
    assert (plan_inputs(picky, job()).draw(3, 0)["kind"] == 7).all()


def test_another_batch_axis():
    plan = plan_inputs(Stub([(spec(shape=("seq", "N", 8)),)], anything), job(batch_axis=1))
    assert plan.specs[0].batch_axis == 1
    assert plan.draw(5, 0)["x"].shape == (16, 5, 8)
    asked = plan_inputs(Stub([], anything), job(batch_axis=1, inputs=("x=float32:7x8",)))
    assert asked.draw(5, 0)["x"].shape == (7, 5, 8)


def test_a_number_and_a_shared_table_have_no_batch_axis():
    inputs = (spec(shape=("N", 4)), spec("threshold", shape=()), spec("table", shape=(9, 4), batch_axis=None))
    plan = plan_inputs(Stub([inputs], anything), job())
    first, second = plan.draw(3, 0), plan.draw(7, 5, 10.0)
    assert (first["threshold"].shape, first["table"].shape) == ((), (9, 4))
    assert np.array_equal(first["table"], second["table"])
    assert np.array_equal(first["threshold"], second["threshold"])
    assert second["x"].shape == (7, 4)


def test_settings_of_a_model_get_values_that_most_settings_may_have():
    numbers = (spec("temperature", shape=()), spec("training", "bool", ()), spec("k", "int64", ()))
    batch = plan_inputs(Stub([(spec(shape=("N", 4)), *numbers)], anything), job()).draw(3, 0)
    assert (batch["temperature"], batch["training"], batch["k"]) == (0.5, False, 1)
    carried = spec("k", "int64", (), sample=np.array(7))
    assert plan_inputs(Stub([(spec(shape=("N", 4)), carried)], anything), job()).draw(3, 0)["k"] == 7


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_the_type_to_run_in_holds_for_floats_only(dtype):
    inputs = (spec(shape=("N", 4)), spec("ids", "int64", (None, 4), highest=9))
    plan = plan_inputs(Stub([inputs], anything), job(dtype=dtype))
    assert [item.dtype for item in plan.specs] == [dtype, "int64"]
    assert plan.draw(2, 0)["x"].dtype == (ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype))
