"""SyncBatchNorm is left in an artifact meant for deployment.

What it checks: layers of type SyncBatchNorm (torch or apex) in saved modules.
Why it matters: SyncBatchNorm exists to share batch statistics among training processes. In training mode inside a
    process group it synchronises and refuses a CPU, torch.jit.script cannot compile it, runtimes of other makers do
    not know it, and old versions synchronise in evaluation mode too.
Example:
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # BN314 when saved like this
Remedy: build the model with ordinary batch norm and load the same state dict into it: names and shapes are equal.
Limits: in evaluation mode current versions compute the same as BatchNorm. State dicts do not show the type.
Sources: torch.nn.SyncBatchNorm; ultralytics/yolov5 issue 1018; pytorch/pytorch issue 48988.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._layers import batch_norm_counts, by_model, counted, surest
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.norm import NormKind
from bn_audit.subject.subject import Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model with SyncBatchNorm layers."""
    totals = batch_norm_counts(subject)
    synchronised = (norm for norm in subject.norms if norm.kind is NormKind.SYNC_BATCH_NORM)
    for route, norms in by_model(synchronised).items():
        yield RULE.finding(
            f"{counted(len(norms), totals[route], ('is', 'are'), route=route)} SyncBatchNorm, made for training in "
            "several processes",
            locations=tuple(norm.location for norm in norms),
            evidence={"sync_batch_norms": len(norms), "batch_norms": totals[route]},
            confidence=surest(norms),
        )


RULE = Rule(
    code="BN314",
    name="sync-batchnorm-deployed",
    summary="SyncBatchNorm left in a deployment artifact",
    severity=Severity.WARNING,
    check=check,
    remedy="Build the model with ordinary batch norm and load the same state dict into it: names and shapes are equal.",
)
