"""The batch counters of one model differ by a factor.

What it checks: num_batches_tracked of all batch norms of a model, compared with the count that most layers share.
Why it matters: an exact multiple means that some layers update their statistics several times in each training step,
    as under activation checkpointing or when a layer is called more than once, so their effective momentum is higher.
    A much smaller count means that layers were frozen for a while, replaced or added later.
Example:
    import torch
    from torch import nn
    from torch.utils.checkpoint import checkpoint
    block = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    out = checkpoint(block, torch.randn(2, 3, 8, 8), use_reentrant=False)
    out.sum().backward()  # the block ran twice: its counter is 2 after one step: BN211 beside layers that count 1
Remedy: for checkpointed layers use a momentum of 1 - sqrt(1 - momentum) or skip the update on recomputation; otherwise
    check that the layers with few batches were meant to learn so little.
Limits: a note. Siamese and recurrent networks call a layer several times per step on purpose, GANs train parts at
    different rates, and fine-tuning adds fresh layers. Counters of 0 are not compared, nor factors below 2.
Sources: torch/nn/modules/batchnorm.py, num_batches_tracked; pytorch/pytorch issues 96136 and 62471.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._layers import counted
from bn_audit.rules._values import LayerValues, values_of
from bn_audit.subject.finding import Confidence, EvidenceValue, Finding, Severity
from bn_audit.subject.subject import Facts, Subject

FACTOR = 2
"""The least factor between two counters that is worth a note: recomputation in the backward pass gives exactly 2."""


def concerns(subject: Subject) -> bool:
    """Return whether there are two counters to compare."""
    return sum(1 for norm in subject.batch_norms if norm.num_batches_tracked is not None) > 1


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding for each model and cause: layers that count a multiple, layers that count less."""
    values = values_of(subject)
    for route, layers in values.batch_norms_by_model().items():
        counters = [(layer, layer.counter) for layer in layers if layer.counter and 0 < layer.counter < math.inf]
        if not counters:
            continue
        usual = _usual(Counter(count for _, count in counters))
        multiple = [(layer, count) for layer, count in counters if count >= FACTOR * usual and count % usual == 0]
        other = [
            (layer, count)
            for layer, count in counters
            if (count >= FACTOR * usual and count % usual != 0) or FACTOR * count <= usual
        ]
        for found, explanation in (
            (multiple, "a multiple: several updates in each step"),
            (other, "so frozen for a while, replaced, added later, or called at another rate"),
        ):
            if found:
                yield _finding(route, len(counters), usual, found, explanation)
    values.raise_for_errors()


def _usual(counts: Counter[float]) -> float:
    """Return the count that most layers share; of two equally common ones the smaller."""
    return min(counts, key=lambda count: (-counts[count], count))


def _finding(route: str, total: int, usual: float, found: list[tuple[LayerValues, float]], explanation: str) -> Finding:
    seen = sorted({count for _, count in found})
    listed = ", ".join(f"{count:.12g}" for count in seen[:4]) + (" ..." if len(seen) > 4 else "")
    numbers: list[EvidenceValue] = [int(count) for count in seen[:10]]
    return RULE.finding(
        f"{counted(len(found), total, ('has', 'have'), route=route)} counted {listed} batches where the usual count is "
        f"{usual:.12g}, {explanation}",
        locations=tuple(layer.norm.location for layer, _ in found),
        evidence={"usual": int(usual), "counted": numbers, "layers": len(found), "compared": total},
        confidence=Confidence.MEDIUM,
    )


RULE = Rule(
    code="BN211",
    name="uneven-batch-counters",
    summary="batch counters of one model differ by a factor",
    severity=Severity.NOTE,
    needs=Facts.VALUES,
    concerns=concerns,
    check=check,
    remedy="Check for activation checkpointing or repeated calls (a multiple), and that layers with few batches were "
    "meant to learn so little.",
)
