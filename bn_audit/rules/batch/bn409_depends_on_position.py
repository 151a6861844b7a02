"""The answer for a sample depends on its place in the batch.

What it checks: every output of a graph by the proof of the batch flow. It fires where constants that differ from row
    to row meet the samples, or where a row of the output is not computed from the same row of the input; and where a
    run shows that copies of one sample get different answers in different rows, beyond floating point.
Why it matters: the same sample gets another answer when the batch is put together in another order. Usual causes are
    positions added along the batch axis, a mask or noise constant recorded for the traced batch, and a wrong reshape.
Example:
    import torch
    from torch import nn
    class Net(nn.Module):
        def forward(self, x):
            return x + torch.arange(x.shape[0], dtype=x.dtype)[:, None]  # one number for each row: BN409
    shapes = {"x": {0: torch.export.Dim("batch")}}
    program = torch.export.export(Net(), (torch.randn(4, 8),), dynamic_shapes=shapes)
Remedy: give constants a batch axis of size 1, so that every row meets the same values, and keep the order of the rows.
Limits: a graph that declares a batch of exactly one is silent. Severities of small measured effects are as for BN401.
    Models that reorder a batch on purpose (reversing it, sorting detections across images) are found as well: declare
    a waiver with its reason.
Sources: pytorch/pytorch issue 99613 for constants that were traced at one size.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._batch_flow import POSITION, outputs_by_model
from bn_audit.rules._observed import concerns_graphs_and_runs
from bn_audit.rules.batch._measured import still_open, with_run
from bn_audit.rules.batch._outputs import dependent_outputs, figures, statement
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.run_verdict import POSITION as MEASURED
from bn_audit.subject.subject import Facts, Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding for each model."""
    proved = {route: list(_proved(subject, route)) for route in outputs_by_model(subject)}
    yield from with_run(RULE, subject, proved, MEASURED, "depends on its place in the batch")


def _proved(subject: Subject, route: str) -> Iterator[Finding]:
    """Yield at most one finding of the proof about one model."""
    total = len(outputs_by_model(subject)[route])
    found = dependent_outputs(subject, route, POSITION)
    if found:
        verb = ("depends on the sample's place in the batch", "depend on the sample's place in the batch")
        yield RULE.finding(
            statement(found, total, verb, route=route, otherwise="rows are not treated alike"),
            locations=tuple(item.location for item in found),
            evidence=figures(found, total),
        )


RULE = Rule(
    code="BN409",
    name="depends-on-position",
    summary="the answer depends on the row's index in the batch",
    severity=Severity.ERROR,
    needs_any=Facts.BATCH_FLOW | Facts.OBSERVATION,
    concerns=concerns_graphs_and_runs,
    check=check,
    open_questions=still_open,
    remedy="Give constants a batch axis of size 1, so that every row meets the same values, and keep the order of the "
    "rows.",
)
