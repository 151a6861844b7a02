"""More norm calls happen at run time than registered layers account for.

What it checks: every batch-norm call of a forward pass against the norm layers that the module tree knows.
Why it matters: what the module tree does not know, eval(), to(), state_dict() and every audit of it miss. A functional
    call with training=True and a layer made inside forward normalise with the batch whatever the mode.
Example:
    import torch
    from torch import nn
    class Net(nn.Module):
        def forward(self, x):
            return nn.BatchNorm2d(x.shape[1])(x)  # a new layer at each call, in training mode: BN106
Remedy: register one layer in __init__ and call it; pass training=self.training to functional batch norm.
Limits: needs a run by a backend that shows its modules. Layers in a plain list or dict are BN108 too, which finds them
    without a run.
Sources: torch.nn.Module.named_modules; torch.nn.functional.batch_norm.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._observed import listed, locations, observed, was_run
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.subject import Facts, Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding."""
    run = observed(subject)
    if run is not None and run.unregistered_norms:
        places = run.unregistered_norms
        hidden = any(not norm.registered and norm.model == run.model for norm in subject.norms)
        total = f" of {run.norm_calls}" if run.norm_calls is not None else ""
        yield RULE.finding(
            f"{len(places)}{total} norm calls of a forward pass come from no registered layer: {listed(places)}"
            f"{' (see BN108)' if hidden else ''}",
            locations=locations(run, *places),
            evidence={
                "unregistered": len(places),
                "norm_calls": run.norm_calls,
                "registered_norms": run.registered_norms,
                "cause": "BN108" if hidden else None,
            },
        )


RULE = Rule(
    code="BN106",
    name="norm-outside-registry-at-run-time",
    summary="more norm calls at run time than registered layers account for",
    severity=Severity.ERROR,
    needs=Facts.OBSERVATION,
    concerns=was_run,
    check=check,
    remedy="Register one layer in __init__ and call it; pass training=self.training to functional batch norm.",
)
