"""A model with weights loaded into it, made by hand."""

from __future__ import annotations

from rule_subjects import MODULE_FACTS, batch_norm, subject

from bn_audit.subject.key_alignment import KeyAlignment, KeyMatch, KeyMismatch
from bn_audit.subject.norm import NormLayer
from bn_audit.subject.subject import Subject

ROLES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
LAYER = tuple(f"bn.{role}" for role in ROLES)
CONVOLUTION = ("conv.weight",)


def loaded(
    *,
    matched: tuple[str, ...] = CONVOLUTION + LAYER,
    missing: tuple[str, ...] = (),
    unexpected: tuple[str, ...] = (),
    mismatched: tuple[tuple[str, str], ...] = (),
    prefix: str = "",
    norms: tuple[NormLayer, ...] = (batch_norm("bn"),),
) -> Subject:
    loading = KeyAlignment(
        reference="the model",
        target="w.pt",
        matched=tuple(KeyMatch(reference=key, target=prefix + key) for key in matched if key not in missing),
        missing=missing,
        unexpected=unexpected,
        mismatched=tuple(
            KeyMismatch(reference=key, target=key, difference=text, is_shape="shape" in text)
            for key, text in mismatched
        ),
        target_prefix=prefix,
    )
    return subject(*norms, facts=MODULE_FACTS, loading=loading)


def without_loading() -> Subject:
    return subject(batch_norm("bn"))
