"""A traced or frozen TorchScript model holds batch-norm calls with training=True built in.

What it checks: the constant `training` argument of every batch-norm call in the code of a TorchScript file, where that
    call normalises activations.
Why it matters: tracing writes the mode into the code. After loading, eval() changes the modules' flags but not the
    constant, so the model uses the statistics of each batch for good, whatever its flags say.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    traced = torch.jit.trace(model, torch.randn(2, 3, 8, 8), check_trace=False)  # model is in training mode
    traced.eval()                                                                # changes nothing
    torch.jit.save(traced, "model.pt")                                           # BN308
Remedy: call model.eval() before torch.jit.trace and trace again.
Limits: calls that normalise weights (weight standardisation) or single samples (InstanceNorm) are silent; where the
    code does not show which, confidence is medium. Calls without stored statistics are BN103. Scripted modules, whose
    mode is a flag, are BN309.
Sources: torch.jit.trace, note on behaviour that depends on the mode; pytorch/pytorch issues 71929 and 29177.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules.graph._training_form import TrainingForm, training_form_findings
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.norm import ModeOrigin
from bn_audit.subject.subject import Facts, Subject

FORM = TrainingForm(
    origin=ModeOrigin.TRACED_CONSTANT,
    statement="traced with the constant training=True, which eval() after loading does not change",
)


def concerns(subject: Subject) -> bool:
    """Return whether any batch norm is a call with a constant mode."""
    return any(norm.mode_origin is FORM.origin for norm in subject.batch_norms)


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model and degree of certainty."""
    yield from training_form_findings(RULE, subject, FORM)


RULE = Rule(
    code="BN308",
    name="torchscript-baked-training",
    summary="TorchScript batch-norm call with a constant training=True on activations",
    severity=Severity.ERROR,
    needs=Facts.MODES,
    concerns=concerns,
    check=check,
    remedy="Call model.eval() before torch.jit.trace (or freeze) and export again; this file cannot be switched.",
)
