"""Few keys of the weights match the model, or they match only without a prefix.

What it checks: which share of the model's keys the weights fill, and whether a prefix such as `module.` had to be
    stripped from the weights' keys for that.
Why it matters: load_state_dict(strict=False) skips what does not match without a word. With a wrong prefix it loads
    nothing, and the model runs with random weights and initial statistics.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    torch.save(nn.DataParallel(model).state_dict(), "weights.pt")  # keys begin with module.: BN203, a note
    model.load_state_dict(torch.load("weights.pt"), strict=False)  # loads nothing
Remedy: save model.module.state_dict(), or strip the prefix when loading, and load with strict=True.
Limits: an error below half of the model's keys, or where keys still differ after the prefix; a prefix as the only
    difference is a note. Loading a backbone into a larger model on purpose is found if it fills less than half.
Sources: torch.nn.Module.load_state_dict; pytorch/pytorch issue 141256.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules.loading._keys import is_clean, is_loaded
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.subject import Subject

LOW_SHARE = 0.5
"""Share of the model's keys below which most of the model keeps its initial values.

Exchanging the head or adding a branch leaves far more than half; a wrong prefix or another architecture leaves next to
nothing.
"""


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding."""
    loading = subject.loading
    if loading is None:
        return
    matched = len(loading.matched)
    total = matched + len(loading.missing) + len(loading.mismatched)
    is_low = matched < LOW_SHARE * total
    if not is_low and not loading.prefix:
        return
    share = f"{matched} of {total} keys of the model are filled from {loading.weights}"
    if loading.prefix:
        share += f", and only after the prefix '{loading.prefix}' is stripped from its keys"
    yield RULE.finding(
        share,
        evidence={"matched": matched, "model_keys": total, "prefix": loading.prefix},
        severity=Severity.NOTE if is_clean(loading) else Severity.ERROR,
    )


RULE = Rule(
    code="BN203",
    name="low-key-match",
    summary="few keys match the model, or only after a prefix is stripped",
    severity=Severity.ERROR,
    concerns=is_loaded,
    check=check,
    remedy="Save the unwrapped model's state_dict() or strip the prefix when loading, and load with strict=True.",
)
