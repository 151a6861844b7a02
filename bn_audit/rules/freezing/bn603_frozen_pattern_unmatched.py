"""A pattern of the freeze policy matches nothing.

What it checks: each `frozen` pattern against the paths of the batch norms and the names of the tensors.
Why it matters: a pattern with a misspelt or renamed module freezes nothing and checks nothing, and every later check of
    the policy passes.
Example:
    import torch
    from torch import nn
    torch.save(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), "model.pt")
    # bn-audit check model.pt --frozen 'backbone.*': BN603, the layers are called 0 and 1
Remedy: name layers that exist; bn-audit inspect lists the paths of all norm layers.
Limits: a pattern that matches tensors and no batch norm is a warning, for a part without batch norms may be frozen.
    A frozen TorchScript archive and some ONNX graphs keep no module paths, so that nothing can match.
Sources: mmengine ParamSchedulerHook and frozen_stages; pytorch/pytorch issue 66073.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._layers import several
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.subject import Subject


def concerns(subject: Subject) -> bool:
    """Return whether a freeze policy was given."""
    return bool(subject.frozen)


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each pattern that matches no batch norm."""
    known = len(subject.batch_norms)
    for item in subject.frozen:
        if item.layers:
            continue
        if item.tensors:
            yield RULE.finding(
                f"the frozen pattern '{item.pattern}' matches {several(len(item.tensors), 'tensor')} and no batch norm",
                evidence={"pattern": item.pattern, "tensors": len(item.tensors), "batch_norms": known},
                severity=Severity.WARNING,
            )
        else:
            yield RULE.finding(
                f"the frozen pattern '{item.pattern}' matches nothing among {several(known, 'batch norm')}",
                evidence={"pattern": item.pattern, "tensors": 0, "batch_norms": known},
            )


RULE = Rule(
    code="BN603",
    name="frozen-pattern-unmatched",
    summary="a pattern of the freeze policy matches nothing",
    severity=Severity.ERROR,
    concerns=concerns,
    check=check,
    remedy="Name layers that exist: bn-audit inspect lists the paths of all norm layers.",
    compares=True,
)
