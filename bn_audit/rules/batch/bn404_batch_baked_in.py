"""A graph that declares a batch of any size has one size built in.

What it checks: graphs of which an input declares its batch axis free, for nodes that only fit one number of samples: a
    Reshape or Expand with a leading constant, a constant as long as the traced batch, a batch axis squeezed away; and
    models that a run shows to fail at some sizes above one, or whose output has no axis of the samples at some size.
Why it matters: the file promises any batch size and fails at the first other one, or, where the sizes happen to fit,
    puts values of several samples into one row without a word.
Example:
    import torch
    from torch import nn
    class Net(nn.Module):
        def forward(self, x):
            return x.reshape(1, -1)  # traced with one sample; x.reshape(x.shape[0], -1) keeps the batch
    torch.onnx.export(Net(), (torch.randn(1, 4, 4),), "model.onnx", dynamo=False, input_names=["x"],
                      dynamic_axes={"x": {0: "batch"}})  # BN404
Remedy: let shapes keep the batch: 0 or -1 for the first size in ONNX, x.shape[0] or flatten(1) in the model, axes
    named in squeeze(); or declare the batch that the graph really takes.
Limits: a graph that honestly declares a fixed batch is silent. Where the wrong shape makes samples meet on the way to
    an output, BN401 reports that, with this code as its cause. A failure at batch size 1 alone is BN403. A run that
    ends for lack of memory or time says nothing about the model.
Sources: microsoft/onnxruntime issue 10463; kotaro-kinoshita/yomitoku issue 215; pytorch/pytorch issue 99613.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bn_audit.interfaces import Rule
from bn_audit.rules._batch_flow import MARK_FIXED_BATCH, declares_free_batch
from bn_audit.rules._observed import (
    concerns_graphs_and_runs,
    observed,
    shortened,
)
from bn_audit.rules.batch._nodes import marked_nodes, nodes_in, shown, where
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.run_verdict import is_fault_of_model
from bn_audit.subject.subject import Facts, Subject

if TYPE_CHECKING:
    from bn_audit.subject.observation import Observation, SizeResult


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding for each model by the proof, and one for a run."""
    told = set()
    for route, marks in marked_nodes(subject, MARK_FIXED_BATCH).items():
        if declares_free_batch(subject, route):
            told.add(route)
            verb = "fixes" if len(marks) == 1 else "fix"
            yield RULE.finding(
                f"{nodes_in(marks, route)} {verb} the batch size in a graph that declares it free: "
                f"{shown(marks, 'one size is built in')}",
                locations=where(marks),
                evidence={"nodes": len(marks), "first": marks[0].node, "why": marks[0].why},
            )
    run = observed(subject)
    if run is not None and run.model not in told:
        yield from _measured(run)


def _measured(run: Observation) -> Iterator[Finding]:
    """Yield what a run at several sizes shows, where it ran at some of them."""
    ran = [size.batch_size for size in run.sizes if size.status == "ok" and size.batch_size not in run.lost_at]
    failed = [size for size in run.sizes if size.status == "failed" and size.batch_size > 1]
    failed = [size for size in failed if is_fault_of_model(size.error)]
    parts = []
    if failed and (ran or run.lost_at):
        parts.append(f"fails at batch size {_sizes(failed)}: {shortened(failed[0].error)}")
    if run.lost_at:
        lost = [size for size in run.sizes if size.batch_size in run.lost_at]
        why = next((f" ({shortened(size.error)})" for size in lost if size.error), "")
        parts.append(f"gives an output without an axis for the samples at batch size {_numbers(run.lost_at)}{why}")
    if parts:
        at = f", though it runs at {_numbers(ran)}" if ran else ""
        yield RULE.finding(
            f"the model{f' in {run.model!r}' if run.model else ''} {' and '.join(parts)}{at}",
            evidence={"failed": [size.batch_size for size in failed], "lost": [*run.lost_at], "ran": [*ran]},
        )


def _sizes(sizes: Sequence[SizeResult]) -> str:
    return _numbers([size.batch_size for size in sizes])


def _numbers(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))


RULE = Rule(
    code="BN404",
    name="batch-baked-in",
    summary="a batch axis that is declared free is fixed inside the graph, or lost at some size",
    severity=Severity.ERROR,
    needs_any=Facts.BATCH_FLOW | Facts.OBSERVATION,
    concerns=concerns_graphs_and_runs,
    check=check,
    remedy="Let shapes keep the batch (0 or -1 in ONNX, x.shape[0] or flatten(1) in the model), or declare the batch "
    "that the graph really takes.",
)
