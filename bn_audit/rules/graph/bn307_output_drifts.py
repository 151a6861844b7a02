"""Identical calls give different outputs, because the runtime overwrites stored statistics.

What it checks: the same batch several times in one session of the runtime, and which stored tensors moved with the
    answer.
Why it matters: an ONNX batch norm in training form whose running outputs are not used updates its stored statistics in
    place, and any node that shares them drifts along, inference nodes included. The answer depends on how often the
    session was called before.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)).train()
    torch.onnx.export(model, (torch.randn(4, 8),), "model.onnx", dynamo=False,
                      training=torch.onnx.TrainingMode.PRESERVE)  # BN307, where the node shares its statistics
Remedy: export in evaluation mode, or give every node its own statistics.
Limits: needs a run; seen in onnxruntime's CPU kernels. A training-form node without drift is BN301 or BN302; modules
    whose code changes their own tensors are BN105 and BN505.
Sources: microsoft/onnxruntime issues 29790 and 29878; ONNX operator specification, BatchNormalization.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._figures import LISTED, figure
from bn_audit.rules._observed import observed, overwritten, quoted, share, was_run
from bn_audit.subject.finding import EvidenceValue, Finding, Location, Severity
from bn_audit.subject.subject import Facts, Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding."""
    run = observed(subject)
    drifting = overwritten(subject, run) if run is not None else ()
    if run is not None and drifting:
        effect = run.second_call_effect
        how_far = f", by {share(effect)} of the largest output at the second call" if effect else ""
        tensors: list[EvidenceValue] = [*drifting[:LISTED]]
        yield RULE.finding(
            f"identical calls give different outputs{how_far}: {run.runner} overwrites {quoted(drifting)}",
            locations=tuple(Location(model=run.model, tensor=name) for name in drifting),
            evidence={"tensors": tensors, "second_call_effect": None if effect is None else figure(effect)},
        )


RULE = Rule(
    code="BN307",
    name="output-drifts",
    summary="identical calls give different outputs: the runtime overwrites shared statistics",
    severity=Severity.ERROR,
    needs=Facts.OBSERVATION,
    concerns=was_run,
    check=check,
    remedy="Export in evaluation mode, or give every node its own statistics.",
)
