"""Two subjects made by hand, one beside the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rule_subjects import MODULE_FACTS, batch_norm, ref, subject

from bn_audit.alignment.claims import match_frozen
from bn_audit.alignment.whole import compare_subjects
from bn_audit.subject.norm import NormLayer
from bn_audit.subject.scope import ValueScope
from bn_audit.subject.subject import Facts, Form, Model, Subject
from bn_audit.subject.tensor import TensorRef

CONVOLUTION = (0.5, -0.25, 0.125, 1.5, 0.75, -1.0, 0.375, 0.625)


def named(norm: NormLayer) -> NormLayer:
    """The same layer with tensors called after its path, as files have them."""
    return replace(norm, **{role: replace(tensor, name=f"{norm.path}.{role}") for role, tensor in norm.tensors.items()})


def convolution(values: Sequence[float] = CONVOLUTION, name: str = "conv.weight") -> TensorRef:
    return ref(values, name=name, shape=(4, len(values) // 4))


def artifact(
    *norms: NormLayer,
    source: str = "target.pt",
    others: Sequence[TensorRef] = (),
    averaged: bool = False,
    frozen: Sequence[str] = (),
    facts: Facts = MODULE_FACTS,
    form: Form = Form.MODULE,
) -> Subject:
    layers = tuple(named(norm) for norm in norms or (batch_norm("bn"),))
    tensors = (*others, *(tensor for norm in layers for tensor in norm.tensors.values()))
    model = Model(route="", form=form, tensors=tensors, averaged=averaged)
    made = replace(subject(*layers, facts=facts, models=(model,)), source=source)
    return replace(made, frozen=match_frozen(made, frozen))


def beside(reference: Subject, target: Subject, *, everything: bool = False) -> Subject:
    """The target as the rules see it, compared with a reference."""
    scope = ValueScope.ALL if everything else ValueScope.BATCH_NORM
    comparison = compare_subjects(replace(reference, source="reference.pt"), target, scope=scope)
    return replace(target, comparison=comparison, facts=target.facts | Facts.REFERENCE)
