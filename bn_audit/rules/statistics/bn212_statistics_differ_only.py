"""Two artifacts have the same weights and different running statistics.

What it checks: batch norms whose mean or variance differs from the reference's beyond rounding, where the scale and
    shift of every layer, and every other weight that was compared, are equal.
Why it matters: statistics belong to weights and data. Equal weights with other statistics mean that one side was
    calibrated again, ran a forward pass in training mode after it was saved, or took its buffers from another file.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    torch.save(model.state_dict(), "before.pt")
    model.train()(torch.randn(4, 3, 8, 8))      # a forward pass moves the statistics without any optimizer
    torch.save(model.state_dict(), "after.pt")  # BN212 beside before.pt
Remedy: find out which statistics were validated, and deploy these; after calibration on purpose, validate again.
Limits: a mean or variance counts as equal within 1e-6 of the standard deviation, mean or variance (float32), 1e-3
    (float16) or 8e-3 (bfloat16). By default only norm layers are read: other weights may differ, unless --values all.
    Layers that a fold took up are BN313's.
Sources: torch.nn.BatchNorm2d; Wu and Johnson 2021, "Rethinking Batch in BatchNorm", section 3.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._drift import (
    by_model,
    described,
    drifts_of,
    evidence_of,
    largest,
    stands_beside_reference,
    weights_compared,
    weights_moved,
)
from bn_audit.rules._layers import counted
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.subject import Facts, Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding for each model."""
    comparison = subject.comparison
    if comparison is None:
        return
    for route, drifts in by_model(drifts_of(subject)).items():
        moved = [drift for drift in drifts if drift.statistics_moved]
        most = largest(moved, roles=("mean", "variance"))
        if most is None or weights_moved(comparison, route) or not weights_compared(comparison, route):
            continue
        yield RULE.finding(
            f"{counted(len(moved), len(drifts), ('has', 'have'), route=route)} other statistics than "
            f"{comparison.reference} although the weights are equal ({described(*most)})",
            locations=tuple(drift.location for drift in moved),
            evidence=evidence_of(moved),
        )


RULE = Rule(
    code="BN212",
    name="statistics-differ-only",
    summary="running statistics differ from the reference's while the weights are equal",
    severity=Severity.WARNING,
    needs=Facts.REFERENCE,
    concerns=stands_beside_reference,
    supersedes=("BN224",),
    check=check,
    remedy="Find out which statistics were validated and deploy these; after a calibration on purpose, validate again.",
    compares=True,
)
