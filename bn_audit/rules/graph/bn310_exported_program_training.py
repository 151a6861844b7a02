"""An exported program holds batch norm in training form.

What it checks: the operator and the `training` argument of every batch-norm call in a torch.export program, where that
    call normalises activations.
Why it matters: torch.export fixes the mode, and eval() on an exported program raises. A batch norm in training form
    uses the statistics of each batch for good, and may change its buffers on every call.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    program = torch.export.export(model, (torch.randn(2, 3, 8, 8),))  # model is in training mode
    torch.export.save(program, "model.pt2")                           # BN310
Remedy: call model.eval() before torch.export.export and export again.
Limits: calls that normalise weights (weight standardisation) or single samples (InstanceNorm decomposes to the same
    operator) are silent; where the graph does not show which, confidence is medium, unless the proof of the batch
    flow acquits them. Calls without stored statistics are BN103.
Sources: torch.export documentation; aten batch_norm and _native_batch_norm_legit; pytorch/pytorch issue 151726.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules.graph._training_form import TrainingForm, training_form_findings
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.norm import ModeOrigin
from bn_audit.subject.subject import Facts, Subject

FORM = TrainingForm(
    origin=ModeOrigin.EXPORTED_ARGUMENT,
    statement="exported in training form, which nothing after loading can change",
)


def concerns(subject: Subject) -> bool:
    """Return whether any batch norm is a call in an exported program."""
    return any(norm.mode_origin is FORM.origin for norm in subject.batch_norms)


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model and degree of certainty."""
    yield from training_form_findings(RULE, subject, FORM)


RULE = Rule(
    code="BN310",
    name="exported-program-training",
    summary="exported program with batch norm in training form on activations",
    severity=Severity.ERROR,
    needs=Facts.MODES,
    concerns=concerns,
    check=check,
    remedy="Call model.eval() before torch.export.export and export again; this file cannot be switched.",
)
