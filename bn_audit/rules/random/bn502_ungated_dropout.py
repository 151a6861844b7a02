"""Functional dropout draws in evaluation mode.

What it checks: the dropout calls of a forward pass whose module is in evaluation mode.
Why it matters: eval() does not reach the call, so every answer of the deployed model is random.
Example:
    import torch
    from torch import nn
    class Net(nn.Module):
        def forward(self, x):
            x = nn.functional.dropout(x, 0.5)  # training=True is the default: BN502
            return nn.functional.dropout(x, 0.5, training=self.training)  # silent
Remedy: pass training=self.training, or use nn.Dropout.
Limits: needs a run by a backend that shows its operators. Dropout in exported graphs is BN504, found without a run.
    Where the randomness is meant (Monte Carlo dropout), declare a waiver with its reason.
Sources: torch.nn.functional.dropout; rixwew/pytorch-fm issue 21; pytorch/pytorch issue 124464.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._layers import several
from bn_audit.rules._observed import listed, locations, observed, was_run
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.subject import Facts, Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding."""
    run = observed(subject)
    if run is not None and run.ungated_dropout:
        places = run.ungated_dropout
        yield RULE.finding(
            f"{several(len(places), 'dropout call', route=run.model)} {'draws' if len(places) == 1 else 'draw'} in "
            f"evaluation mode: {listed(places)}",
            locations=locations(run, *places),
            evidence={"calls": len(places), "runner": run.runner},
        )


RULE = Rule(
    code="BN502",
    name="ungated-dropout",
    summary="functional dropout that ignores eval()",
    severity=Severity.WARNING,
    needs=Facts.OBSERVATION,
    concerns=was_run,
    check=check,
    remedy="Pass training=self.training to functional dropout, or use nn.Dropout.",
)
