"""Live dropout stands beside batch norm in inference form, so the model was exported in training mode.

What it checks: graphs in which every batch norm uses its running statistics while a dropout still draws.
Why it matters: some exporters turn batch norm into its inference form whatever the mode was, and leave dropout as it
    is. The batch norms look right, so the mistake goes unseen, and every call gives another answer.
Example:
    import torch
    from torch import nn
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(8).eval()
            self.dropout = nn.Dropout(0.5)  # still in training mode
        def forward(self, x):
            return self.dropout(self.norm(x))
    program = torch.export.export(Net(), (torch.randn(2, 8),))  # BN311
Remedy: call eval() on the whole model before exporting, and export again.
Limits: sampling with dropout at inference (MC dropout) has exactly this form on purpose: declare a waiver.
    Dropout with probability 0 is silent. Replaces BN504 for the same calls; where a batch norm is in training form
    too, BN308, BN310, BN301 or BN302 reports that and BN504 the dropout. torch's newer ONNX exporter also folds
    batch norm into convolutions: then none is left to stand beside, and BN504 reports the dropout.
Sources: torch.export and torch.onnx.export documentation; Gal and Ghahramani 2016 for MC dropout.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._dropout import certainty, live_calls, probabilities
from bn_audit.rules._figures import figure
from bn_audit.rules._layers import ONNX_ORIGINS, by_model, several
from bn_audit.subject.finding import EvidenceValue, Finding, Severity
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin, NormLayer
from bn_audit.subject.subject import Facts, Subject

FIXED = ONNX_ORIGINS | {ModeOrigin.TRACED_CONSTANT, ModeOrigin.EXPORTED_ARGUMENT}


def concerns(subject: Subject) -> bool:
    """Return whether a graph with fixed modes holds batch norms and random calls."""
    return bool(subject.random_calls) and any(map(_states_the_mode, subject.batch_norms))


def _states_the_mode(norm: NormLayer) -> bool:
    """Return whether this call tells in which mode the model was exported; weight standardisation always trains."""
    harmless = (InputOrigin.PARAMETERS, InputOrigin.INSTANCES)
    return norm.mode_origin in FIXED and norm.input_origin not in harmless


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each graph; it points at the dropout calls."""
    norms = by_model(filter(_states_the_mode, subject.batch_norms))
    for route, calls in live_calls(subject, dropout=True).items():
        layers = norms.get(route, [])
        in_inference = [norm for norm in layers if norm.mode is Mode.EVAL and norm.uses_batch_statistics is False]
        if not layers or len(in_inference) < len(layers):
            continue
        rates: list[EvidenceValue] = [figure(rate) for rate in probabilities(calls)]
        yield RULE.finding(
            f"{several(len(calls), 'live dropout call', route=route)} beside {len(layers)} batch "
            f"norm{'' if len(layers) == 1 else 's'} in inference form: exported from a model in training mode",
            locations=tuple(call.location for call in calls),
            evidence={"dropout_calls": len(calls), "batch_norms": len(layers), "probabilities": rates},
            confidence=certainty(calls),
        )


RULE = Rule(
    code="BN311",
    name="half-converted-export",
    summary="inference batch norm beside live dropout: exported from a model in training mode",
    severity=Severity.ERROR,
    supersedes=("BN504",),
    needs=Facts.GRAPH,
    concerns=concerns,
    check=check,
    remedy="Call eval() on the whole model before exporting, and export again; declare MC dropout in a waiver.",
)
