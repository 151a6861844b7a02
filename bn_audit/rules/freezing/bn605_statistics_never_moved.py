"""Weights were trained between two checkpoints and the running statistics did not move.

What it checks: batch norms whose scale or shift differs from the reference's while mean and variance are equal bit for
    bit, though no `frozen` pattern matches them.
Why it matters: statistics belong to the weights that made them. Where training ran with the layers in evaluation mode,
    with momentum 0, or saved its parameters into an old file, evaluation uses numbers of another network.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval()
    torch.save(model.state_dict(), "before.pt")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.randn(4, 3, 8, 8)).square().mean().backward()
    optimizer.step()                            # trained in evaluation mode
    torch.save(model.state_dict(), "after.pt")  # BN605 beside before.pt
Remedy: train in training mode, or declare the layers as frozen; recompute the statistics on training data.
Limits: fixed statistics under trainable scales (norm_eval) are a recipe of detection: name such layers in `frozen`. An
    averaged model with the statistics of the live one is BN210. Layers without scale and shift are judged where other
    weights were compared and differ, with --values all.
Sources: torch.nn.BatchNorm2d; mmdetection norm_eval; Lightning issue 14866.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bn_audit.interfaces import Rule
from bn_audit.rules._drift import by_model, claimed_frozen, drifts_of, stands_beside_reference
from bn_audit.rules._layers import counted
from bn_audit.subject.finding import EvidenceValue, Finding, Severity
from bn_audit.subject.scope import ValueScope
from bn_audit.subject.subject import Facts, Subject

if TYPE_CHECKING:
    from bn_audit.subject.comparison import Comparison
    from bn_audit.subject.drift import LayerDrift


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding for each model that is no average of the other."""
    comparison = subject.comparison
    if comparison is None:
        return
    frozen = claimed_frozen(subject)
    averages = {pair.target for pair in comparison.models if pair.reference_averaged != pair.target_averaged}
    for route, drifts in by_model(drifts_of(subject)).items():
        free = [drift for drift in drifts if drift.location not in frozen]
        still = [drift for drift in free if _stands_still(drift, comparison)]
        if still and route not in averages:
            yield RULE.finding(
                f"{counted(len(still), len(free), ('has', 'have'), route=route)} exactly the statistics of "
                f"{comparison.reference} although the weights were trained since",
                locations=tuple(drift.location for drift in still),
                evidence=_evidence(still, len(free)),
            )


def _stands_still(drift: LayerDrift, comparison: Comparison) -> bool:
    if drift.equal_statistics is not True:
        return False
    all_read = comparison.values.scope is ValueScope.ALL and all(keys.complete for keys in comparison.keys)
    return drift.affine_moved or (drift.equal_affine is None and all_read and bool(comparison.values.mismatched))


def _evidence(still: list[LayerDrift], total: int) -> dict[str, EvidenceValue]:
    found: dict[str, EvidenceValue] = {"layers": len(still), "compared": total}
    counters = [drift.counter for drift in still]
    if any(change.differs for change in counters):
        found["counters_moved"] = sum(change.differs for change in counters)
    return found


RULE = Rule(
    code="BN605",
    name="statistics-never-moved",
    summary="weights were trained between two checkpoints, statistics did not move",
    severity=Severity.WARNING,
    needs=Facts.REFERENCE,
    concerns=stands_beside_reference,
    check=check,
    remedy="Train in training mode, or declare the layers as frozen; recompute the statistics on training data.",
    compares=True,
)
