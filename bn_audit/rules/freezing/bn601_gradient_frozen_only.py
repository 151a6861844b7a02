"""Batch norms are frozen by requires_grad=False alone while they are in training mode.

What it checks: batch norms in training mode whose weight and bias take no gradients, in a model of which other
    parameters do.
Why it matters: requires_grad=False stops the optimizer, not the running statistics. Every training step still moves
    mean and variance and normalises with the batch, so the layer that was meant to be fixed drifts.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3))
    for parameter in model[1].parameters():
        parameter.requires_grad_(False)
    model.train()
    torch.save(model, "model.pt")  # BN601: the statistics of model[1] still move
Remedy: bn_audit.freeze_bn(model, patterns, affine=True) keeps the layers in evaluation through every model.train();
    without it, call eval() on them after each one, for instance in an overridden train(), or use FrozenBatchNorm.
Limits: a model whose parameters are all frozen is an inference copy and silent (BN101 judges its mode); where the file
    does not say whether others take gradients, confidence is medium. Trainable scales over statistics fixed by eval()
    are a common recipe and silent. Domain adaptation that moves only the statistics (AdaBN) is found. State dicts do
    not record gradients.
Sources: pytorch/pytorch issues 86590 and 66073; torchvision.ops.FrozenBatchNorm2d; bn_audit.freeze_bn.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._layers import batch_norm_counts, by_model, counted, stores_no_statistics, surest
from bn_audit.subject.finding import Confidence, Finding, Severity
from bn_audit.subject.norm import Mode, ModeOrigin, NormLayer
from bn_audit.subject.subject import Facts, Subject


def concerns(subject: Subject) -> bool:
    """Return whether there are batch norms whose gradients and mode can still be changed."""
    return any(norm.mode_origin is ModeOrigin.MODULE_FLAG for norm in subject.batch_norms)


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model that trains around batch norms frozen by gradient."""
    totals = batch_norm_counts(subject)
    takes_gradients = {model.route: model.takes_gradients for model in subject.models}
    for route, norms in by_model(subject.batch_norms).items():
        frozen = [norm for norm in norms if _is_frozen_by_gradient(norm)]
        certain = takes_gradients.get(route) or any(norm.requires_grad for norm in norms)
        if not frozen or (not certain and takes_gradients.get(route) is False):
            continue
        yield RULE.finding(
            f"{counted(len(frozen), totals[route], ('takes', 'take'), route=route)} no gradients but "
            f"{'is' if len(frozen) == 1 else 'are'} in training mode: the statistics still move",
            locations=tuple(norm.location for norm in frozen),
            evidence={"frozen_by_gradient": len(frozen), "batch_norms": totals[route]},
            confidence=surest(frozen) if certain else Confidence.MEDIUM,
        )


def _is_frozen_by_gradient(norm: NormLayer) -> bool:
    return (
        norm.requires_grad is False
        and norm.mode is Mode.TRAIN
        and norm.mode_origin is ModeOrigin.MODULE_FLAG
        and norm.uses_batch_statistics is True
        and not stores_no_statistics(norm)
        and not norm.uninitialised
    )


RULE = Rule(
    code="BN601",
    name="gradient-frozen-only",
    summary="frozen by requires_grad=False while batch norm is in training mode",
    severity=Severity.WARNING,
    needs=Facts.GRADIENTS | Facts.MODES,
    concerns=concerns,
    check=check,
    remedy="Keep the frozen layers in evaluation through every model.train(): bn_audit.freeze_bn(model, patterns), an "
    "overridden train(), or FrozenBatchNorm.",
)
