"""The model has tensors that the weights lack, or the reference has them and the target does not.

What it checks: keys of the model that the weights file does not hold; likewise keys of a reference.
Why it matters: with strict=True loading fails; with strict=False these tensors keep their initial values, and for
    running statistics these are mean 0 and variance 1, which belong to no data.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    torch.save(dict(model.named_parameters()), "weights.pt")  # BN221: the running statistics are buffers
Remedy: save model.state_dict() of the very model that is deployed, and load with strict=True.
Limits: batch counters alone are BN202; of a graph, which renames and drops what it likes, only norm layers and the
    weights of convolutions and linear layers are missed, and a folded batch norm is BN313's. A head that is trained
    anew after loading is found as well.
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
    """Yield at most one finding for each pair of models, with every missing key."""
    for alignment in fits_of(subject):
        missing = without_lone_counters(alignment.missing)
        if missing:
            yield RULE.finding(
                f"{several(len(missing), 'tensor')} of {of_reference(alignment)} "
                f"{'is' if len(missing) == 1 else 'are'} missing from {alignment.target}{statistics_among(missing)}",
                locations=tuple(location(alignment, key) for key in missing),
                evidence={"missing": len(missing), "matched": len(alignment.matched), "first": list(missing[:LISTED])},
            )


RULE = Rule(
    code="BN221",
    name="missing-tensor",
    summary="the model or reference has a tensor that the weights or target lack",
    severity=Severity.ERROR,
    concerns=has_keys_to_fit,
    compares=True,
    check=check,
    remedy="Save model.state_dict() of the model that is deployed, and load it with strict=True.",
)
