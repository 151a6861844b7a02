"""An operator combines the values of different samples, and the effect reaches no output.

What it checks: nodes at which the proof of the batch flow sees samples meet (a reduction, product, softmax or sort over
    the batch axis), in graphs none of whose outputs is proved to depend on other samples.
Why it matters: the graph computes something over the batch that it does not use today. The next change, a scale that
    is no longer zero or an output that is no longer dropped, lets it through.
Example:
    import torch
    from torch import nn
    class Net(nn.Module):
        def forward(self, x):
            spread = x.std(dim=0, keepdim=True)  # over the batch
            return x + 0.0 * spread              # BN407: multiplied by zero
    shapes = {"x": {0: torch.export.Dim("batch")}}
    program = torch.export.export(Net(), (torch.randn(4, 8),), dynamic_shapes=shapes)
Remedy: remove the operator, or reduce within each sample.
Limits: where an output does depend on other samples BN401 reports it, and names every such node in its evidence. Batch
    norms in training form have rules of their own. Checks that only stop the model (assertions over the batch) are
    found as well. Where an output is undecided the effect may reach it: confidence is medium.
Sources: Karras et al. 2018, section 3 (minibatch standard deviation), for a typical operator.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._batch_flow import (
    MARK_MIXES,
    MIXES,
    UNDECIDED,
    concerns_graphs,
    has_companions,
    layer_at,
    outputs_by_model,
)
from bn_audit.rules._observed import observed
from bn_audit.rules.batch._nodes import marked_nodes, nodes_in, shown, where
from bn_audit.subject.finding import Confidence, EvidenceValue, Finding, Severity
from bn_audit.subject.run_verdict import CONTENT
from bn_audit.subject.subject import Facts, Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding for each model."""
    mixing = outputs_by_model(subject, MIXES)
    undecided = outputs_by_model(subject, UNDECIDED)
    run = observed(subject, CONTENT)
    for route, marks in marked_nodes(subject, MARK_MIXES).items():
        unreported = [mark for mark in marks if layer_at(subject, mark) is None]
        if route in mixing or not unreported or not has_companions(subject, route):
            continue
        if run is not None and run.model == route:
            continue  # BN401 reports it
        open_outputs: list[EvidenceValue] = [flow.output for flow in undecided.get(route, [])[:3]]
        effect = "whether an output depends on it is not decided" if open_outputs else "no output depends on it"
        verb = "combines" if len(unreported) == 1 else "combine"
        yield RULE.finding(
            f"{nodes_in(unreported, route)} {verb} values of different samples, {effect}: "
            f"{shown(unreported, 'samples meet')}",
            locations=where(unreported),
            evidence={"nodes": len(unreported), "undecided_outputs": open_outputs, "why": unreported[0].why},
            confidence=Confidence.MEDIUM if open_outputs else Confidence.HIGH,
        )


RULE = Rule(
    code="BN407",
    name="reduces-over-batch",
    summary="an operator combines values over the batch axis, without effect on an output",
    severity=Severity.WARNING,
    needs=Facts.BATCH_FLOW,
    concerns=concerns_graphs,
    check=check,
    remedy="Remove the operator, or reduce within each sample.",
)
