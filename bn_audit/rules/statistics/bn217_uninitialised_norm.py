"""A normalisation layer never saw data and has no parameters yet.

What it checks: lazy batch norms (nn.LazyBatchNorm2d and its like) whose parameters are still uninitialised, and layers
    that take their scale from the first batch they see (ActNorm) and have not seen one.
Why it matters: the first call in deployment creates the parameters: from that batch for ActNorm, and as mean 0,
    variance 1, scale 1 and shift 0 for a lazy batch norm. Either way they are not what was trained.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d())
    torch.save(model, "model.pt")    # BN217: no forward pass yet
    model(torch.randn(2, 3, 16, 16))
    torch.save(model.eval(), "model.pt")  # silent
Remedy: run one representative batch through the model, train it, and save it afterwards.
Limits: a model saved on purpose before its first forward pass is found as well.
Sources: torch.nn.LazyBatchNorm2d; Kingma and Dhariwal 2018, section 3.1 (ActNorm).
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._layers import by_model, counted, has_norms, norm_counts, surest
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.subject import Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model with layers that wait for their first batch."""
    totals = norm_counts(subject)
    for route, norms in by_model(norm for norm in subject.norms if norm.uninitialised).items():
        waiting = counted(len(norms), totals[route], ("is", "are"), route=route, noun="normalisation layer")
        yield RULE.finding(
            f"{waiting} uninitialised: no batch has passed yet",
            locations=tuple(norm.location for norm in norms),
            evidence={"uninitialised": len(norms), "layers": totals[route]},
            confidence=surest(norms),
        )


RULE = Rule(
    code="BN217",
    name="uninitialised-norm",
    summary="norm layer that never saw data (LazyBatchNorm, ActNorm)",
    severity=Severity.ERROR,
    concerns=has_norms,
    check=check,
    remedy="Run one representative batch through the model, train it, and save it afterwards.",
)
