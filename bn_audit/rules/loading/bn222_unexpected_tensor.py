"""The weights have tensors that the model lacks, or the target has them and the reference does not.

What it checks: keys of the weights file that the model does not have; likewise keys beyond a reference.
Why it matters: with strict=True loading fails; with strict=False they are dropped. Where they are the statistics of a
    batch norm, the model was built without them, or with another normalisation than it was trained with.
Example:
    import torch
    from torch import nn
    trained = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    torch.save(trained.state_dict(), "weights.pt")
    deployed = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False))  # BN222
Remedy: build the model as it was trained, or remove the keys that are not needed from the file.
Limits: batch counters alone are BN202; of graphs only norm layers, convolutions and linear layers are judged. Auxiliary
    heads that only training needs are found as well.
Sources: torch.nn.Module.load_state_dict.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._figures import LISTED
from bn_audit.rules._layers import several
from bn_audit.rules.loading._keys import (
    fits_of,
    has_keys_to_fit,
    location,
    of_reference,
    statistics_among,
    without_lone_counters,
)
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.subject import Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding for each pair of models, with every unexpected key."""
    for alignment in fits_of(subject):
        unexpected = without_lone_counters(alignment.unexpected)
        if unexpected:
            yield RULE.finding(
                f"{several(len(unexpected), 'tensor')} in {alignment.target} that {of_reference(alignment)} lacks"
                f"{statistics_among(unexpected)}",
                locations=tuple(location(alignment, key) for key in unexpected),
                evidence={
                    "unexpected": len(unexpected),
                    "matched": len(alignment.matched),
                    "first": list(unexpected[:LISTED]),
                },
            )


RULE = Rule(
    code="BN222",
    name="unexpected-tensor",
    summary="the weights or target have a tensor that the model or reference lacks",
    severity=Severity.WARNING,
    concerns=has_keys_to_fit,
    compares=True,
    check=check,
    remedy="Build the model as it was trained, or remove the keys that are not needed from the file.",
)
