"""A model that samples with dropout on purpose also runs its batch norms in training mode.

What it checks: batch norms in training mode where a waiver declares Monte-Carlo dropout (intent = "mc-dropout").
Why it matters: calling model.train() to switch dropout on switches batch norm too. The spread of the predictions is
    then no longer the dropout's alone: each sample depends on its neighbours, and every call moves the statistics.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5))
    torch.save(model.train(), "model.pt")  # with the waiver: BN507
    model.eval()[2].train()                # dropout alone
    torch.save(model, "model.pt")          # silent
Remedy: call model.eval() and then train() on the dropout modules alone.
Limits: it looks only where the design is declared, and speaks in place of BN101, BN102 and BN309 there; graphs keep
    the finding that says how their calls were fixed in training form. A state dict records no mode, so the question is
    reported as not checked. Batch norms without stored statistics are left to BN103: no mode changes what they do.
Sources: Gal and Ghahramani 2016, Dropout as a Bayesian Approximation; torch.nn.BatchNorm2d documentation.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._batch_flow import is_acquitted
from bn_audit.rules._layers import ONNX_ORIGINS, batch_norm_counts, by_model, counted, stores_no_statistics, surest
from bn_audit.subject.design import Design
from bn_audit.subject.finding import Finding, Intent, Severity
from bn_audit.subject.norm import InputOrigin, Mode, NormLayer
from bn_audit.subject.subject import Facts, Subject


def concerns(subject: Subject) -> bool:
    """Return whether Monte-Carlo dropout is declared for an artifact with batch norms."""
    return Design.MC_DROPOUT in subject.declared and bool(subject.batch_norms)


def _trains(norm: NormLayer) -> bool:
    """Return whether a layer normalises activations with the batch because of its mode alone."""
    return (
        norm.kind.is_batch_norm
        and norm.mode is Mode.TRAIN
        and norm.uses_batch_statistics is True
        and not norm.uninitialised
        and (norm.mode_origin in ONNX_ORIGINS or not stores_no_statistics(norm))
        and norm.input_origin not in (InputOrigin.PARAMETERS, InputOrigin.INSTANCES)
    )


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model with batch norms in training mode."""
    totals = batch_norm_counts(subject)
    training = (norm for norm in subject.norms if _trains(norm) and not is_acquitted(subject, norm))
    for route, norms in by_model(training).items():
        layers = counted(len(norms), totals[route], ("is", "are"), route=route)
        yield RULE.finding(
            f"{layers} in training mode, not dropout alone",
            locations=tuple(norm.location for norm in norms),
            evidence={"training": len(norms), "batch_norms": totals[route]},
            confidence=surest(norms),
        )


RULE = Rule(
    code="BN507",
    name="mc-dropout-with-bn-train",
    summary="batch norm in training mode under a waiver that declares Monte-Carlo dropout",
    severity=Severity.ERROR,
    overrides={Intent.RESUME: Severity.NOTE, Intent.FINETUNE: Severity.NOTE},
    supersedes=("BN101", "BN102", "BN309"),
    needs=Facts.MODES,
    concerns=concerns,
    check=check,
    remedy="Call model.eval() and then train() on the dropout modules alone, and save or export again.",
)
