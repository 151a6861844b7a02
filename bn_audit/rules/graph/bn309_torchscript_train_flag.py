"""A scripted TorchScript model was saved in training mode.

What it checks: the training flag of every batch norm in a scripted module, together with whether it stores statistics.
Why it matters: a scripted module keeps its flag, and loading it restores training mode. eval() after loading repairs
    that, but inference servers and C++ programs usually load and run.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    torch.jit.save(torch.jit.script(model), "model.pt")         # BN309
    torch.jit.save(torch.jit.script(model.eval()), "model.pt")  # silent
Remedy: call model.eval() before torch.jit.script and save again; until then call eval() after loading (module.eval()
    in C++).
Limits: layers without running statistics are BN103, since eval() does not change them. A traced or frozen model is
    judged by the constant in its code (BN308), whatever its flags say.
Sources: torch.jit.ScriptModule; pytorch/pytorch issue 26884; triton-inference-server/server issue 1345.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._layers import batch_norm_counts, by_model, counted, surest
from bn_audit.rules.graph._training_form import is_fixed_in_training
from bn_audit.subject.finding import Finding, Intent, Severity
from bn_audit.subject.norm import ModeOrigin
from bn_audit.subject.subject import Facts, Subject


def concerns(subject: Subject) -> bool:
    """Return whether any batch norm belongs to a scripted module."""
    return any(norm.mode_origin is ModeOrigin.SCRIPTED_FLAG for norm in subject.batch_norms)


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model with batch norms whose scripted flag says training."""
    totals = batch_norm_counts(subject)
    training = (norm for norm in subject.norms if is_fixed_in_training(norm, ModeOrigin.SCRIPTED_FLAG))
    for route, norms in by_model(training).items():
        scripted = counted(len(norms), totals[route], ("is", "are"), route=route)
        yield RULE.finding(
            f"{scripted} in training mode as scripted, until somebody calls eval() after loading",
            locations=tuple(norm.location for norm in norms),
            evidence={"training": len(norms), "batch_norms": totals[route]},
            confidence=surest(norms),
        )


RULE = Rule(
    code="BN309",
    name="torchscript-train-flag",
    summary="scripted module saved in training mode",
    severity=Severity.ERROR,
    overrides={Intent.RESUME: Severity.NOTE},
    needs=Facts.MODES,
    concerns=concerns,
    check=check,
    remedy="Call model.eval() before torch.jit.script and save again; until then call eval() right after loading.",
)
