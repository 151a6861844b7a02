"""A graph draws random numbers when it runs.

What it checks: dropout with a probability above 0 that is switched on in an exported graph (an error), and other
    random operators such as rand, bernoulli or rrelu in training form (a warning).
Why it matters: the same sample gives another answer on every call. Live dropout usually means that the model was
    exported in training mode, and nothing after loading can switch it off.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5))
    program = torch.export.export(model, (torch.randn(2, 8),))         # BN504
    program = torch.export.export(model.eval(), (torch.randn(2, 8),))  # silent
Remedy: call model.eval() before exporting. Where the model samples on purpose, declare a waiver with its reason
    (intent = "mc-dropout" for dropout).
Limits: diffusion models, variational autoencoders and other samplers mean their random operators, so those are
    warnings. A scripted module's dropout counts as switched on if its saved flag says so; eval() after loading then
    helps. Beside batch norm in inference form BN311 reports the dropout instead.
Sources: torch.nn.Dropout; aten dropout and native_dropout; pytorch/pytorch issue 103681.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._dropout import certainty, live_calls, probabilities
from bn_audit.rules._figures import distinct, figure
from bn_audit.rules._layers import several
from bn_audit.subject.finding import EvidenceValue, Finding, Intent, Severity
from bn_audit.subject.subject import Facts, RandomCall, Subject


def concerns(subject: Subject) -> bool:
    """Return whether the graph has random calls at all."""
    return bool(subject.random_calls)


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one error for dropout and one warning for other randomness in each model."""
    for route, calls in live_calls(subject, dropout=True).items():
        rates = probabilities(calls)
        listed: list[EvidenceValue] = [figure(rate) for rate in rates]
        yield RULE.finding(
            f"{several(len(calls), 'dropout call', route=route)} switched on in the graph"
            f"{f', probability {distinct(rates)}' if rates else ''}",
            locations=tuple(call.location for call in calls),
            evidence={"calls": len(calls), "probabilities": listed, "operators": _operators(calls)},
            confidence=certainty(calls),
        )
    for route, calls in live_calls(subject, dropout=False).items():
        yield RULE.finding(
            f"{several(len(calls), 'random call', route=route)} in the graph "
            f"({', '.join(str(operator) for operator in _operators(calls))})",
            locations=tuple(call.location for call in calls),
            evidence={"calls": len(calls), "operators": _operators(calls)},
            remedy="If the model samples on purpose, declare a waiver; otherwise call model.eval() before exporting.",
            severity=Severity.WARNING,
        )


def _operators(calls: list[RandomCall]) -> list[EvidenceValue]:
    return [*sorted({call.op for call in calls})]


RULE = Rule(
    code="BN504",
    name="live-randomness-in-graph",
    summary="live dropout or another random operator in an exported graph",
    severity=Severity.ERROR,
    overrides={Intent.RESUME: Severity.NOTE},
    needs=Facts.GRAPH,
    concerns=concerns,
    check=check,
    remedy="Call model.eval() before exporting, and export again; declare sampling that is meant in a waiver.",
)
