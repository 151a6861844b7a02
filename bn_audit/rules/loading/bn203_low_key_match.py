"""Few keys match, or they match only without a prefix.

What it checks: which share of the model's keys the weights fill, and whether a prefix such as `module.` had to be
    stripped from the weights' keys for that; likewise for an artifact beside its reference.
Why it matters: load_state_dict(strict=False) skips what does not match without a word. With a wrong prefix it loads
    nothing, and the model runs with random weights and initial statistics.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    torch.save(nn.DataParallel(model).state_dict(), "weights.pt")  # keys begin with module.: BN203, a note
    model.load_state_dict(torch.load("weights.pt"), strict=False)  # loads nothing
Remedy: save model.module.state_dict(), or strip the prefix when loading, and load with strict=True.
Limits: graphs keep only some names, and are silent. An error below half of the model's keys, or where keys still
    differ after the prefix; a prefix as the only
    difference is a note. Loading a backbone into a larger model on purpose is found if it fills less than half.
Sources: torch.nn.Module.load_state_dict; pytorch/pytorch issue 141256.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bn_audit.interfaces import Rule
from bn_audit.rules.loading._keys import fits_of, has_keys_to_fit, is_clean, of_reference
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.subject import Subject

if TYPE_CHECKING:
    from bn_audit.subject.key_alignment import KeyAlignment

LOW_SHARE = 0.5
"""Share of the model's keys below which most of the model keeps its initial values.

Exchanging the head or adding a branch leaves far more than half; a wrong prefix or another architecture leaves next to
nothing.
"""


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding for each pair of models."""
    for alignment in fits_of(subject):
        if alignment.complete:
            yield from _judge(alignment)


def _judge(alignment: KeyAlignment) -> Iterator[Finding]:
    matched, total = len(alignment.matched), alignment.total
    prefixes = {alignment.target: alignment.target_prefix, alignment.reference: alignment.reference_prefix}
    stripped = {name: prefix for name, prefix in prefixes.items() if prefix}
    if matched >= LOW_SHARE * total and not stripped:
        return
    share = f"{matched} of {total} keys of {of_reference(alignment)} are filled from {alignment.target}"
    clauses = []
    for name, prefix in stripped.items():
        whose = "its keys" if name == alignment.target else f"the keys of {of_reference(alignment)}"
        clauses.append(f"the prefix '{prefix}' is stripped from {whose}")
    if clauses:
        share += f", and only after {' and '.join(clauses)}"
    yield RULE.finding(
        share,
        evidence={
            "matched": matched,
            "model_keys": total,
            "prefix": alignment.target_prefix,
            "reference_prefix": alignment.reference_prefix,
        },
        severity=Severity.NOTE if is_clean(alignment) else Severity.ERROR,
    )


RULE = Rule(
    code="BN203",
    name="low-key-match",
    summary="few keys match, or only after a prefix is stripped",
    severity=Severity.ERROR,
    concerns=has_keys_to_fit,
    compares=True,
    check=check,
    remedy="Save the unwrapped model's state_dict() or strip the prefix when loading, and load with strict=True.",
)
