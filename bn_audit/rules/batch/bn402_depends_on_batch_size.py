"""The answer for a sample changes with the number of samples in its batch.

What it checks: every output of a graph that takes batches of any size, by the proof of the batch flow at two sizes. It
    fires where a number computed from the batch size enters the values of an output, although no samples meet; and
    where a run shows that the same rows give another answer in a batch of another size, beyond floating point.
Why it matters: the same sample gets another answer in a larger batch, even if the others are copies of it. Usual
    causes are a sum divided by the batch size and a constant that fits one size only.
Example:
    import torch
    from torch import nn
    class Net(nn.Module):
        def forward(self, x):
            return x / x.shape[0]  # BN402
    shapes = {"x": {0: torch.export.Dim("batch")}}
    program = torch.export.export(Net(), (torch.randn(4, 8),), dynamic_shapes=shapes)
Remedy: keep the batch size out of the values: divide by the number of elements of one sample, and leave averages over
    the batch to the training loss.
Limits: proved at two sizes, measured at those asked for; a tiny effect is a note as for BN401. A graph that declares a
    fixed number of samples is silent, since no other can be given. Values that change through rounding only are no
    concern of the proof, and BN408 after a run.
Sources: pytorch/pytorch issue 99613 for constants that were traced at one size.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._batch_flow import SIZE, declares_fixed_batch, outputs_by_model
from bn_audit.rules._observed import concerns_graphs_and_runs
from bn_audit.rules.batch._measured import still_open, with_run
from bn_audit.rules.batch._outputs import dependent_outputs, figures, statement
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.run_verdict import SIZE as MEASURED
from bn_audit.subject.subject import Facts, Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding for each model."""
    proved = {route: list(_proved(subject, route)) for route in outputs_by_model(subject)}
    yield from with_run(RULE, subject, proved, MEASURED, "changes with the number of samples in its batch")


def _proved(subject: Subject, route: str) -> Iterator[Finding]:
    """Yield at most one finding of the proof about one model."""
    total = len(outputs_by_model(subject)[route])
    found = [] if declares_fixed_batch(subject, route) else dependent_outputs(subject, route, SIZE)
    if found:
        verb = ("changes with the number of samples in the batch", "change with the number of samples in the batch")
        yield RULE.finding(
            statement(found, total, verb, route=route, otherwise="the batch size enters"),
            locations=tuple(item.location for item in found),
            evidence=figures(found, total),
        )


RULE = Rule(
    code="BN402",
    name="depends-on-batch-size",
    summary="the same rows change with the number of rows",
    severity=Severity.WARNING,
    needs_any=Facts.BATCH_FLOW | Facts.OBSERVATION,
    concerns=concerns_graphs_and_runs,
    check=check,
    open_questions=still_open,
    remedy="Keep the batch size out of the values: divide by the number of elements of one sample instead.",
)
