from dataclasses import replace

from comparisons import artifact, beside
from rule_subjects import BIAS, WEIGHT, batch_norm, only, outcome, ref, subject

from bn_audit.rules.interop.bn701_foreign_names import RULE

FOREIGN = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def ported():
    """An artifact whose batch norm has the names of TensorFlow."""
    made = artifact()
    (norm,), (model,) = made.norms, made.models
    tensors = {role: replace(norm.tensors[role], name=f"bn.{name}") for role, name in FOREIGN.items()}
    named = replace(norm, **tensors, num_batches_tracked=None)
    return replace(made, norms=(named,), models=(replace(model, tensors=tuple(tensors.values())),))


def test_names_of_another_framework_on_either_side():
    plain = artifact(batch_norm(num_batches_tracked=None))
    finding = only(RULE, beside(plain, ported()))
    assert finding.message == "4 tensors matched under their name of another framework (bn.gamma)"
    assert only(RULE, beside(ported(), plain)).evidence["tensors"] == 4


def test_equal_names_are_silent_whatever_they_are():
    assert outcome(RULE, beside(ported(), ported())) == []
    assert outcome(RULE, beside(artifact(), artifact())) == []


def test_without_a_reference_names_are_not_judged():
    assert outcome(RULE, ported()) == []
    assert outcome(RULE, subject(batch_norm(weight=ref(WEIGHT, name="bn.gamma"), bias=ref(BIAS)))) == []
