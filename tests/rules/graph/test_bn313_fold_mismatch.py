"""Folds of a layer with four channels and two inputs, computed here by the definition."""

import math
from dataclasses import replace

import pytest
from comparisons import CONVOLUTION, artifact, beside, convolution
from rule_subjects import BIAS, MEAN, VARIANCE, WEIGHT, batch_norm, fresh, only, outcome, paths, ref

from bn_audit.rules.graph.bn313_fold_mismatch import RULE
from bn_audit.subject.finding import Severity

PLAIN = artifact(batch_norm("bn", preceding="conv"), others=[convolution()])


def folded(eps=1e-5, mean=MEAN, variance=VARIANCE, dtype="float32"):
    scale = [weight / math.sqrt(value + eps) for weight, value in zip(WEIGHT, variance, strict=True)]
    filters = [CONVOLUTION[index] * scale[index // 2] for index in range(8)]
    shifts = [bias - value * by for bias, value, by in zip(BIAS, mean, scale, strict=True)]
    weight = ref(filters, dtype, name="conv.weight", shape=(4, 2))
    return artifact_without_norms(weight, ref(shifts, dtype, name="conv.bias"))


def artifact_without_norms(*tensors):
    made = artifact(others=list(tensors))
    (model,) = made.models
    return replace(made, norms=(), models=(replace(model, tensors=tuple(tensors)),))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_a_right_fold_is_silent_whichever_side_has_it(dtype):
    assert outcome(RULE, beside(PLAIN, folded(dtype=dtype))) == []
    assert outcome(RULE, beside(folded(dtype=dtype), PLAIN)) == []


def test_other_statistics_in_one_channel_are_named():
    finding = only(RULE, beside(PLAIN, folded(mean=(0.25, -0.5, 1.5, 0.875))))
    assert finding.message.startswith(
        "1 batch norm of 1 that the target has folded was folded with other values (bn: the bias of channel 3 is "
    )
    assert (finding.severity, paths(finding)) == (Severity.ERROR, ["bn"])
    assert finding.evidence["layers"][0]["channels_beyond"] == 1


def test_another_variance_changes_the_scale():
    finding = only(RULE, beside(PLAIN, folded(variance=(0.5, 1.25, 0.06, 2.0))))
    assert "channel 2 is scaled by " in finding.message


def test_another_eps_is_told_apart_from_other_statistics():
    finding = only(RULE, beside(PLAIN, folded(eps=1e-3)))
    assert "(bn: with eps 0.001 instead of 1e-05)" in finding.message
    assert finding.evidence["layers"][0]["folded_eps"] == 1e-3


def test_a_wrong_fold_of_the_reference_is_named_at_the_target_s_layer():
    finding = only(RULE, beside(folded(mean=(0.0, 0.0, 0.0, 0.0)), PLAIN))
    assert "that reference.pt has folded" in finding.message
    assert paths(finding) == ["bn"]


@pytest.mark.parametrize("eps", [1e-5, 1e-3, 3.7e-4])
def test_an_eps_that_is_not_recorded_is_inferred(eps):
    without = artifact(batch_norm("bn", eps=None, preceding="conv"), others=[convolution()])
    audited = beside(without, folded(eps=eps))
    assert outcome(RULE, audited) == []
    (pair,) = audited.comparison.pairs
    assert pair.fold.eps_inferred
    assert pair.fold.eps == pytest.approx(eps, rel=1e-3)


def test_one_channel_of_another_checkpoint_does_not_spoil_the_inferred_eps():
    without = artifact(batch_norm("bn", eps=None, preceding="conv"), others=[convolution()])
    finding = only(RULE, beside(without, folded(eps=1e-3, variance=(0.5, 1.25, 0.03, 3.0))))
    assert "eps 0.001 inferred" in finding.message
    assert finding.evidence["layers"][0]["channel"] == 3


def test_a_batch_norm_as_it_was_created_folds_into_nothing():
    initial = artifact(fresh("bn", preceding="conv"), others=[convolution()])
    scale = 1 / math.sqrt(1 + 1e-5)
    weight = ref([value * scale for value in CONVOLUTION], name="conv.weight", shape=(4, 2))
    audited = beside(initial, artifact_without_norms(weight, ref([0.0] * 4, name="conv.bias")))
    assert outcome(RULE, audited) == []
    assert audited.comparison.pairs[0].fold.holds


def test_a_layer_that_was_left_out_is_missing_and_not_folded():
    bare = artifact_without_norms(convolution())
    audited = beside(PLAIN, bare)
    assert outcome(RULE, audited) == []
    assert audited.comparison.pairs[0].paired_by is None
