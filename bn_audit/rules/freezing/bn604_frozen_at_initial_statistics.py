"""A batch norm is claimed frozen with the statistics that it was created with.

What it checks: batch norms that a `frozen` pattern matches and whose statistics are mean 0 and variance 1 in every
    channel.
Why it matters: freezing keeps what is there. A backbone that is frozen before its checkpoint was loaded, or after one
    without buffers, normalises with numbers that belong to no data, and no training repairs that any more.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval()
    torch.save(model, "model.pt")  # bn-audit check model.pt --frozen '*': BN604
Remedy: load the pretrained statistics before freezing, with strict=True, or train the layers until they are known.
Limits: FrozenBatchNorm with folded Caffe2 weights has mean 0 and variance 1 - eps on purpose and is no batch norm here.
    A layer whose statistics are really 0 and 1 in every channel cannot be told from one that never learned.
Sources: torch.nn.BatchNorm2d, reset_running_stats; torchvision.ops.FrozenBatchNorm2d.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._drift import claimed_frozen
from bn_audit.rules._layers import several
from bn_audit.rules._values import values_of
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.subject import Facts, Subject


def concerns(subject: Subject) -> bool:
    """Return whether the freeze policy matches any batch norm with statistics."""
    layers = claimed_frozen(subject)
    return any(norm.location in layers and norm.has_running_statistics for norm in subject.batch_norms)


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding for each model."""
    layers = claimed_frozen(subject)
    values = values_of(subject)
    for route, found in values.batch_norms_by_model().items():
        frozen = [layer for layer in found if layer.norm.location in layers]
        initial = [layer for layer in frozen if layer.has_initial_statistics]
        if initial:
            yield RULE.finding(
                f"{len(initial)} of {several(len(frozen), 'batch-norm layer', route=route)} claimed frozen "
                f"{'has' if len(initial) == 1 else 'have'} the initial statistics mean 0 and variance 1",
                locations=tuple(layer.norm.location for layer in initial),
                evidence={"initial": len(initial), "frozen": len(frozen)},
            )
    values.raise_for_errors()


RULE = Rule(
    code="BN604",
    name="frozen-at-initial-statistics",
    summary="a batch norm claimed frozen never learned statistics",
    severity=Severity.ERROR,
    needs=Facts.VALUES,
    concerns=concerns,
    check=check,
    remedy="Load the pretrained statistics before freezing, with strict=True, or train the layers first.",
    compares=True,
)
