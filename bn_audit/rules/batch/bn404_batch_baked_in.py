"""A graph that declares a batch of any size has one size built in.

What it checks: graphs of which an input declares its batch axis free, for nodes that only fit one number of samples: a
    Reshape or Expand with a leading constant, a constant as long as the traced batch, a batch axis squeezed away.
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
    an output, BN401 reports that, with this code as its cause.
Sources: microsoft/onnxruntime issue 10463; kotaro-kinoshita/yomitoku issue 215; pytorch/pytorch issue 99613.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._batch_flow import MARK_FIXED_BATCH, concerns_graphs, declares_free_batch
from bn_audit.rules.batch._nodes import marked_nodes, nodes_in, shown, where
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.subject import Facts, Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding for each model."""
    for route, marks in marked_nodes(subject, MARK_FIXED_BATCH).items():
        if declares_free_batch(subject, route):
            verb = "fixes" if len(marks) == 1 else "fix"
            yield RULE.finding(
                f"{nodes_in(marks, route)} {verb} the batch size in a graph that declares it free: "
                f"{shown(marks, 'one size is built in')}",
                locations=where(marks),
                evidence={"nodes": len(marks), "first": marks[0].node, "why": marks[0].why},
            )


RULE = Rule(
    code="BN404",
    name="batch-baked-in",
    summary="a batch axis that is declared free is fixed inside the graph, or lost at some size",
    severity=Severity.ERROR,
    needs=Facts.BATCH_FLOW,
    concerns=concerns_graphs,
    check=check,
    remedy="Let shapes keep the batch (0 or -1 in ONNX, x.shape[0] or flatten(1) in the model), or declare the batch "
    "that the graph really takes.",
)
