"""A forward pass changes stored tensors beside running statistics.

What it checks: every stored tensor before and after two forward passes of the model as it is saved; running statistics
    and their counters are left out.
Why it matters: the model is not the same after it was asked. Power iteration of spectral norm in training mode, call
    counters and caches make answers depend on what ran before, and replicas drift apart.
Example:
    import torch
    from torch import nn
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))
        def forward(self, x):
            self.calls += 1  # BN505
            return x
Remedy: change state only where self.training holds, or keep it out of the module.
Limits: needs a run. A change that no answer shows is reported too, since the next version of the code may read it. Norm
    statistics are BN105, or BN101 where training mode is declared.
Sources: torch.nn.utils.parametrizations.spectral_norm; pytorch/pytorch issue 51800.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._figures import LISTED, figure
from bn_audit.rules._layers import several
from bn_audit.rules._observed import observed, other_changes, quoted, share, was_run
from bn_audit.subject.finding import EvidenceValue, Finding, Location, Severity
from bn_audit.subject.run_verdict import STATEFUL
from bn_audit.subject.subject import Facts, Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding."""
    run = observed(subject)
    changed = other_changes(subject, run) if run is not None else []
    if run is None or not changed:
        return
    stored: list[EvidenceValue] = [*changed[:LISTED]]
    effect = run.second_call_effect if STATEFUL in run.flags else None
    shown = f", and a second call answers otherwise by {share(effect)}" if effect else ", without effect on the answer"
    yield RULE.finding(
        f"a forward pass changes {several(len(changed), 'stored tensor', route=run.model)} ({quoted(changed)}){shown}",
        locations=tuple(Location(model=run.model, path=name.rpartition(".")[0], tensor=name) for name in changed),
        evidence={"tensors": stored, "second_call_effect": None if effect is None else figure(effect)},
    )


RULE = Rule(
    code="BN505",
    name="state-changes-in-inference",
    summary="other state than running statistics changes in a forward pass",
    severity=Severity.WARNING,
    needs=Facts.OBSERVATION,
    concerns=was_run,
    check=check,
    remedy="Change state only where self.training holds, or keep it out of the module.",
)
