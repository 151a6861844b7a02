"""Values differ from the reference's beyond rounding.

What it checks: the mean, variance, scale and shift of each batch norm that both sides have, and with --values all every
    other tensor, element by element.
Why it matters: an artifact of another epoch or another run is deployed as easily as the one that was validated, and
    nothing but its values tells them apart.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    torch.save(model.state_dict(), "epoch_9.pt")
    with torch.no_grad():
        model[1].weight += 0.1
        model[1].running_mean += 0.1
    torch.save(model.state_dict(), "epoch_10.pt")  # BN224 beside epoch_9.pt
Remedy: export or deploy the checkpoint that was validated; between two epochs the difference is what training does.
Limits: numbers count as equal within 1e-6 (float32), 1e-3 (float16) or 8e-3 (bfloat16) of the standard deviation for
    means, of the value for variances and of the tensor's largest element otherwise; the finding names the tolerance.
    What was not read is listed as not compared. Statistics that differ alone are BN212, in another order BN215.
Sources: torch.testing.assert_close; IEEE 754-2019, rounding of binary16 and binary32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bn_audit.interfaces import Rule
from bn_audit.rules._drift import (
    by_model,
    described,
    drifts_of,
    evidence_of,
    largest,
    stands_beside_reference,
    tensor_location,
)
from bn_audit.rules._figures import LISTED, figure, readable
from bn_audit.rules._layers import counted, several
from bn_audit.subject.finding import EvidenceValue, Finding, Severity
from bn_audit.subject.subject import Facts, Subject

if TYPE_CHECKING:
    from bn_audit.subject.comparison import Comparison, ValueMismatch


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding for the batch norms of each model, and one for all other tensors."""
    comparison = subject.comparison
    if comparison is None:
        return
    for route, drifts in by_model(drifts_of(subject)).items():
        moved = [drift for drift in drifts if drift.statistics_moved or drift.affine_moved]
        most = largest(moved, roles=("mean", "variance", "weight", "bias"))
        if most is not None:
            yield RULE.finding(
                f"{counted(len(moved), len(drifts), ('differs', 'differ'), route=route)} in value from "
                f"{comparison.reference} ({described(*most)})",
                locations=tuple(drift.location for drift in moved),
                evidence=evidence_of(moved),
            )
    if comparison.values.mismatched:
        yield _of_tensors(comparison)


def _of_tensors(comparison: Comparison) -> Finding:
    found = comparison.values.mismatched
    most = max(found, key=lambda item: item.size)
    return RULE.finding(
        f"{several(len(found), 'tensor')} of {len(comparison.values.compared)} compared outside norm layers "
        f"{'differs' if len(found) == 1 else 'differ'} in value from {comparison.reference} ({most.target}: by "
        f"{readable(most.size)} of its largest element in channel {most.channel}, {readable(most.reference_value)} to "
        f"{readable(most.target_value)}; tolerance {readable(most.tolerance)})",
        locations=tuple(tensor_location(item.target) for item in found),
        evidence={"tensors": len(found), "largest": [_figures(item) for item in _ordered(found)]},
    )


def _ordered(found: tuple[ValueMismatch, ...]) -> list[ValueMismatch]:
    return sorted(found, key=lambda item: -item.size)[:LISTED]


def _figures(item: ValueMismatch) -> EvidenceValue:
    return {
        "tensor": item.target,
        "size": figure(item.size),
        "channel": item.channel,
        "reference": figure(item.reference_value),
        "target": figure(item.target_value),
        "elements_beyond": item.beyond,
        "tolerance": item.tolerance,
    }


RULE = Rule(
    code="BN224",
    name="value-mismatch",
    summary="values differ from the reference's beyond the stated tolerance",
    severity=Severity.WARNING,
    needs=Facts.REFERENCE,
    concerns=stands_beside_reference,
    check=check,
    remedy="Export or deploy the checkpoint that was validated; between two epochs the difference is what training "
    "does.",
    compares=True,
)
