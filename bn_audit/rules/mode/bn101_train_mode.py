"""Batch-norm layers were saved in training mode.

What it checks: the training flag of every batch norm in a saved or live module. It fires for the layers that would
    normalise with the current batch because of that flag.
Why it matters: such a layer normalises with the mean and variance of whatever shares the batch, so the answer for one
    sample depends on its neighbours, a batch of one may fail, and every call moves the running statistics.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    torch.save(model, "model.pt")         # training mode is the default: BN101
    torch.save(model.eval(), "model.pt")  # silent
Remedy: call model.eval() right before saving. For a training checkpoint, where training mode is normal, use
    --intent resume or --intent finetune. In a program that runs the model, bn_audit.guard(model) around inference
    stops such a layer and names it.
Limits: a state dict records no mode, so the question is reported as not checked (see BN111). Layers that ignore the
    flag are silent: InstanceNorm, FrozenBatchNorm, normalisers that always use their running values. A layer without
    running statistics is left to BN103 and one that never saw data to BN217, because eval() changes neither. Models
    that use batch statistics on purpose at test time (pix2pix, test-time adaptation) are found as well: declare a
    waiver with its reason, since no file can show that.
Sources: torch/nn/modules/batchnorm.py, _BatchNorm.forward; Ioffe and Szegedy 2015, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._layers import batch_norm_counts, by_model, counted, surest
from bn_audit.rules.mode._flags import eval_remedy, is_training
from bn_audit.subject.finding import Finding, Intent, Severity
from bn_audit.subject.norm import ModeOrigin
from bn_audit.subject.subject import Facts, Subject


def concerns(subject: Subject) -> bool:
    """Return whether a flag decides the mode, or would if the artifact recorded it."""
    origins = (ModeOrigin.MODULE_FLAG, ModeOrigin.NOT_RECORDED)
    return any(norm.mode_origin in origins for norm in subject.batch_norms)


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model with batch norms in training mode; it names those that eval() misses last."""
    totals = batch_norm_counts(subject)
    for route, training in by_model(filter(is_training, subject.norms)).items():
        total = totals[route]
        missed = sum(1 for norm in training if not norm.registered)
        remedy = eval_remedy(subject)
        if missed:
            remedy = f"Register the {missed} that eval() misses (BN108), in nn.ModuleList or as an attribute. {remedy}"
        yield RULE.finding(
            f"{counted(len(training), total, ('is', 'are'), route=route)} in training mode"
            f"{f', {missed} of them out of reach of eval()' if missed else ''}",
            locations=tuple(norm.location for norm in training),
            evidence={"training": len(training), "batch_norms": total},
            remedy=remedy,
            confidence=surest(training),
        )


RULE = Rule(
    code="BN101",
    name="train-mode",
    summary="batch norm saved in training mode: it normalises with the current batch",
    severity=Severity.ERROR,
    overrides={Intent.RESUME: Severity.NOTE, Intent.FINETUNE: Severity.NOTE},
    needs=Facts.MODES,
    concerns=concerns,
    check=check,
    remedy="Call model.eval() right before saving.",
)
