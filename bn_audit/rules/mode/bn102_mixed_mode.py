"""Some batch-norm layers of one model were saved in training mode and others in evaluation mode.

What it checks: the training flags of all batch norms of a model, compared with each other. The flags of containers and
    of the root prove nothing about the layers below and are not looked at.
Why it matters: a half-switched model looks like it is in evaluation mode, and the few layers that are not still mix
    the samples of a batch. It comes from a child that was added or replaced after eval(), from an overridden train()
    and from code that freezes parts of a network.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval()
    model.append(nn.BatchNorm2d(8))  # a new layer is in training mode: BN102
    torch.save(model, "model.pt")
Remedy: call model.eval() after the last change to the model, right before saving. Where frozen layers of a training
    checkpoint are in evaluation mode on purpose, use --intent resume or --intent finetune; bn_audit.freeze_bn(model,
    patterns) freezes and bn_audit.unfreeze_bn(model) restores them without leaving some behind.
Limits: each model of a file is judged alone, so a generator in evaluation mode beside a discriminator in training mode
    is not mixed. Layers that ignore the flag, or that eval() cannot change (BN103, BN108, BN217), are not compared.
    Replaces BN101 for the same layers.
Sources: torch.nn.Module.train; pytorch/pytorch issue 20875; Lightning-AI/pytorch-lightning issue 2551.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._layers import by_model, counted, surest
from bn_audit.rules.mode._flags import eval_remedy, is_evaluating, is_training
from bn_audit.subject.finding import Finding, Intent, Severity
from bn_audit.subject.norm import ModeOrigin
from bn_audit.subject.subject import Facts, Subject


def concerns(subject: Subject) -> bool:
    """Return whether there are at least two batch norms whose flags can be compared."""
    return sum(1 for norm in subject.batch_norms if norm.mode_origin is ModeOrigin.MODULE_FLAG) > 1


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model whose registered batch norms disagree; it names those in training mode."""
    for route, norms in by_model(subject.batch_norms).items():
        evaluating = [norm for norm in norms if norm.registered and is_evaluating(norm)]
        training = [norm for norm in norms if is_training(norm)]
        if not evaluating or not any(norm.registered for norm in training):
            continue
        yield RULE.finding(
            f"{counted(len(training), len(norms), ('is', 'are'), route=route)} in training mode while "
            f"{len(evaluating)} {'is' if len(evaluating) == 1 else 'are'} in evaluation mode",
            locations=tuple(norm.location for norm in training),
            evidence={"training": len(training), "evaluating": len(evaluating), "batch_norms": len(norms)},
            remedy=eval_remedy(subject),
            confidence=surest(training),
        )


RULE = Rule(
    code="BN102",
    name="mixed-mode",
    summary="some batch norms of one model train while others evaluate",
    severity=Severity.ERROR,
    overrides={Intent.RESUME: Severity.NOTE, Intent.FINETUNE: Severity.NOTE},
    supersedes=("BN101",),
    needs=Facts.MODES,
    concerns=concerns,
    check=check,
    remedy="Call model.eval() after the last change to the model, right before saving.",
)
