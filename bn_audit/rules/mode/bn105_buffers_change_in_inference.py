"""A forward pass in inference changed running statistics.

What it checks: the running mean and variance of every batch norm before and after two forward passes of the model as it
    is saved, for layers that are not declared to be in training mode.
Why it matters: the model learns from the data it is asked about. Its answers drift with traffic, replicas that served
    other requests disagree, and a restart changes the answers back.
Example:
    import torch
    from torch import nn
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn = nn.BatchNorm1d(8)
        def forward(self, x):
            return self.bn.train()(x)  # forward sets its own mode: BN105 after model.eval()
    model = Net().eval()
Remedy: leave the mode to train() and eval(); pass training=self.training to functional batch norm.
Limits: needs a run. Layers that the artifact declares to be in training mode are BN101, BN309 or BN310; buffers beside
    norm statistics are BN505, statistics that a runtime overwrites BN307.
Sources: torch.nn.functional.batch_norm; pytorch/vision issue 2079.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._figures import LISTED
from bn_audit.rules._layers import several
from bn_audit.rules._observed import changed_statistics, observed, was_run
from bn_audit.subject.finding import EvidenceValue, Finding, Location, Severity
from bn_audit.subject.subject import Facts, Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding."""
    run = observed(subject)
    changed = changed_statistics(subject, run) if run is not None else []
    if run is not None and changed:
        layers = list(dict.fromkeys(name.rpartition(".")[0] for name in changed))
        names: list[EvidenceValue] = [*changed[:LISTED]]
        yield RULE.finding(
            f"a forward pass changed the running statistics of {several(len(layers), 'norm layer', route=run.model)} "
            f"that {'is' if len(layers) == 1 else 'are'} not in training mode",
            locations=tuple(Location(model=run.model, path=layer) for layer in layers),
            evidence={"layers": len(layers), "buffers": names, "runner": run.runner},
        )


RULE = Rule(
    code="BN105",
    name="buffers-change-in-inference",
    summary="a forward pass in inference changed running statistics",
    severity=Severity.ERROR,
    needs=Facts.OBSERVATION,
    concerns=was_run,
    check=check,
    remedy="Leave the mode to train() and eval(): call no train() in forward, and pass training=self.training to "
    "functional batch norm.",
)
