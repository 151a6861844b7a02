"""BN403, BN404, BN406, BN408 and BN410: what a run at several sizes shows beside a dependence."""

import pytest
from rule_subjects import (
    FLOW_FACTS,
    batch_norm,
    declaring,
    mark,
    observation,
    only,
    outcome,
    ran,
)

from bn_audit.rules.batch.bn403_fails_at_batch_one import RULE as BN403
from bn_audit.rules.batch.bn404_batch_baked_in import RULE as BN404
from bn_audit.rules.batch.bn406_companions_sizes_matter import RULE as BN406
from bn_audit.rules.batch.bn408_within_numeric_floor import RULE as BN408
from bn_audit.rules.batch.bn410_latent_mixing import RULE as BN410
from bn_audit.subject.finding import Severity
from bn_audit.subject.norm import Mode
from bn_audit.subject.observation import InputUsed, OutputResult, Place, SizeResult
from bn_audit.subject.subject import Facts

SQUEEZED = "IndexError: Dimension out of range (expected to be in range of [-1, 0], but got 1)"


def sizes(*failed, error="RuntimeError: shape '[4, 4]' is invalid", lost=()):
    """A run at 1, 2, 3 and 8 samples that failed at some."""
    rows = tuple(
        SizeResult(batch_size=size, status="failed", error=error)
        if size in failed
        else SizeResult(
            batch_size=size, max_rel=0.0, error="output y is of shape [4]: no axis of 1" if size in lost else ""
        )
        for size in (1, 2, 3, 8)
    )
    return {"sizes": rows, "lost_at": tuple(lost), "fails_at_one": error if 1 in failed else ""}


def test_failure_with_a_single_sample():
    finding = only(BN403, ran(batch_norm(), run=observation(**sizes(1, error=SQUEEZED))))
    assert finding.message == (
        "the model fails at batch size 1, though it runs at 2, 3, 8: IndexError: Dimension out of range (expected to "
        "be in range of [-1, 0], but got 1)"
    )
    assert finding.severity is Severity.ERROR
    assert finding.evidence["ran"] == [2, 3, 8]


def test_layers_in_training_mode_are_counted_as_a_possible_reason():
    run = observation(**sizes(1, error="ValueError: Expected more than 1 value per channel when training\nmore"))
    finding = only(BN403, ran(batch_norm("bn", Mode.TRAIN), run=run))
    assert finding.evidence["layers_using_batch_statistics"] == 1
    assert "\n" not in finding.message


def test_a_backend_that_crashes_at_one_sample():
    error = "the backend crashed (SIGSEGV) at this step: batch size 1"
    assert "crashed (SIGSEGV)" in only(BN403, ran(run=observation(**sizes(1, error=error)))).message


@pytest.mark.parametrize("error", ["", "the time limit of 600 s passed before", "out of memory: choose"])
def test_what_is_no_fault_of_the_model_at_one_sample(error):
    assert outcome(BN403, ran(run=observation(**sizes(1, error=error)))) == []


def test_other_sizes_are_another_rule():
    run = observation("cannot-run", **sizes(2, 3))
    assert outcome(BN403, ran(run=run)) == []
    finding = only(BN404, ran(run=run))
    assert finding.message == (
        "the model fails at batch size 2, 3: RuntimeError: shape '[4, 4]' is invalid, though it runs at 1, 8"
    )
    assert finding.evidence == {"failed": [2, 3], "lost": [], "ran": [1, 8]}


def test_an_output_that_loses_its_batch_axis():
    finding = only(BN404, ran(run=observation(**sizes(lost=(1,)))))
    assert finding.message == (
        "the model gives an output without an axis for the samples at batch size 1 (output y is of shape [4]: no axis "
        "of 1), though it runs at 2, 3, 8"
    )


@pytest.mark.parametrize(
    "changes", [{}, sizes(1), sizes(3, error="the time limit of 5 s passed before: batch size 3"), sizes(1, 2, 3, 8)]
)
def test_sizes_that_all_work_all_fail_or_were_cut_off(changes):
    assert outcome(BN404, ran(run=observation(**changes))) == []


def test_what_the_graph_already_shows_is_told_once():
    audited = ran(
        run=observation("cannot-run", **sizes(2, 3)),
        facts=FLOW_FACTS | Facts.OBSERVATION,
        graphs={"": declaring("batch")},
        flow_marks=(mark("fixed-batch", "Reshape_1", why="Reshape to a constant"),),
    )
    assert "Reshape to a constant at 'Reshape_1'" in only(BN404, audited).message


def fed(**dtypes):
    return tuple(InputUsed(name=name, dtype=dtype, shape=(16,)) for name, dtype in dtypes.items())


@pytest.mark.parametrize(
    ("inputs", "severity"),
    [
        (fed(ids="int64", attention_mask="int64"), Severity.WARNING),
        (fed(x="float32", lengths="int64"), Severity.WARNING),
        (fed(tokens="int32"), Severity.NOTE),
    ],
)
def test_padding_that_counts(inputs, severity):
    finding = only(BN406, ran(run=observation(padding_effect=0.25, inputs=inputs)))
    assert finding.severity is severity
    assert finding.message.startswith("padding a sample changes its answer by up to 25% of its largest output, ")


def test_images_are_not_padded_as_a_rule():
    for inputs in (fed(image="float32"), fed(image="uint8"), (InputUsed(name="k", dtype="int64", shape=()),)):
        assert outcome(BN406, ran(run=observation(padding_effect=0.25, inputs=inputs))) == []


@pytest.mark.parametrize("effect", [None, 0.0, 3e-6])
def test_padding_that_does_not_count(effect):
    assert outcome(BN406, ran(run=observation(padding_effect=effect))) == []


@pytest.mark.parametrize(("dtype", "rounding"), [("float32", 2e-5), ("float32", 1.4e-6), ("bfloat16", 0.03)])
def test_rounding_that_a_fixed_tolerance_would_report(dtype, rounding):
    finding = only(BN408, ran(run=observation(dtype=dtype, rounding_only=rounding)))
    assert finding.severity is Severity.NOTE
    assert "through rounding alone; the noise floor of this model is 4e-06" in finding.message


@pytest.mark.parametrize(
    ("dtype", "rounding"),
    [("float32", None), ("float32", 0.0), ("float32", 1e-6), ("float16", 9e-4), ("bfloat16", 0.01)],
)
def test_rounding_that_surprises_nobody(dtype, rounding):
    assert outcome(BN408, ran(run=observation(dtype=dtype, rounding_only=rounding))) == []


def test_a_layer_that_mixes_without_effect():
    places = (
        Place(path="block.bn", type_name="BatchNorm2d", op="aten.native_batch_norm.default"),
        Place(path="block.bn", type_name="BatchNorm2d"),
        Place(path="block", op="aten.mul.Tensor"),
    )
    finding = only(BN410, ran(batch_norm("block.bn", Mode.TRAIN), run=observation(latent=places)))
    assert finding.message == (
        "samples mix without effect on an output today: first at 'block.bn' (BatchNorm2d, "
        "aten.native_batch_norm.default) (see BN101), and in 1 more place behind it"
    )
    assert [place.path for place in finding.locations] == ["block.bn", "block"]
    assert finding.evidence["causes"] == ["BN101"]
    assert only(BN410, ran(run=observation(latent=places[2:]))).evidence["causes"] == []


def test_an_output_for_the_whole_batch_may_be_what_samples_mix_for():
    outputs = (
        OutputResult(name="y", dtype="float32", shape=(8, 3), max_rel=0.0),
        OutputResult(name="loss", dtype="float32", shape=(), batch_axis=None),
    )
    finding = only(BN410, ran(run=observation(latent=(Place(path="a", op="aten.mean.default"),), outputs=outputs)))
    assert finding.message == (
        "samples mix without effect on an output that has an axis for them: first at 'a' (aten.mean.default); output "
        "'loss' has no axis for the samples and may be meant to"
    )
    assert finding.severity is Severity.NOTE


def test_the_first_place_is_named_where_its_layer_comes_back():
    places = (Place(path="", op="aten.mean.dim"), Place(path="cell", op="aten.mul.Tensor"), Place(path=""))
    finding = only(BN410, ran(run=observation(latent=places)))
    assert finding.message.endswith("first at the model's own code (aten.mean.dim), and in 1 more place behind it")


@pytest.mark.parametrize(
    ("op", "severity"),
    [
        ("aten.sort.default", Severity.NOTE),
        ("aten.index_copy.default", Severity.NOTE),
        ("aten._unique2.default", Severity.NOTE),
        ("aten.index_add.default", Severity.WARNING),
        ("aten.scatter_add_.default", Severity.WARNING),
        ("aten.topk.default", Severity.WARNING),
        ("aten.mean.dim", Severity.WARNING),
        ("", Severity.NOTE),
    ],
)
def test_rows_that_may_only_move_are_a_note(op, severity):
    assert only(BN410, ran(run=observation(latent=(Place(path="", op=op),)))).severity is severity


def test_a_layer_that_mixes_with_effect_is_no_latent_one():
    assert outcome(BN410, ran(run=observation("content", latent=(Place(path="a"),)))) == []
    assert outcome(BN410, ran(run=observation())) == []
