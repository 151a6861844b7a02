"""Inference fails with a batch of one sample.

What it checks: the model at batch size 1, where that was asked for and larger batches run.
Why it matters: single requests are what a deployed model gets most, and the last batch of a data set may hold one
    sample. The model works in every test with batches and fails in production.
Example:
    import torch
    from torch import nn
    class Net(nn.Module):
        def forward(self, x):
            scores = x.mean(dim=(2, 3)).squeeze()  # loses the batch axis at one sample; flatten(1) keeps it
            return torch.cat((scores, scores), dim=1)  # BN403
Remedy: repair what the error names: name the axis in squeeze(), keep the batch axis in view() and mean(), and set batch
    norm to evaluation mode ("Expected more than 1 value per channel when training").
Limits: needs a run at batch size 1. Failures at larger sizes are BN404. A run that ends for lack of memory or time says
    nothing about the model; a backend that crashes at one sample does, and fails the run besides.
Sources: torch.nn.functional.batch_norm; open-mmlab/mmsegmentation issue 272; pytorch/pytorch issue 142852.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._observed import observed, shortened, was_run
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.run_verdict import is_crash, is_fault_of_model
from bn_audit.subject.subject import Facts, Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding."""
    run = observed(subject)
    if run is None or not (is_fault_of_model(run.fails_at_one) or is_crash(run.fails_at_one)):
        return
    ran = [size.batch_size for size in run.sizes if size.status == "ok" and size.batch_size > 1]
    training = [norm for norm in subject.norms if norm.model == run.model and norm.uses_batch_statistics is True]
    at = f"though it runs at {', '.join(map(str, ran))}" if ran else "though larger batches run"
    yield RULE.finding(
        f"the model{f' in {run.model!r}' if run.model else ''} fails at batch size 1, {at}: "
        f"{shortened(run.fails_at_one)}",
        evidence={"error": run.fails_at_one[:1000], "ran": [*ran], "layers_using_batch_statistics": len(training)},
    )


RULE = Rule(
    code="BN403",
    name="fails-at-batch-one",
    summary="inference fails at batch size 1",
    severity=Severity.ERROR,
    needs=Facts.OBSERVATION,
    concerns=was_run,
    check=check,
    remedy="Repair what the error names: keep the batch axis in squeeze(), view() and mean(), and set batch norm to "
    "evaluation mode.",
)
