"""A batch norm was folded with other statistics than the reference has.

What it checks: where one side has a batch norm and the other has folded it into the convolution or linear layer before
    it, whether W' = W * weight / sqrt(var + eps) and b' = (b - mean) * weight / sqrt(var + eps) + bias hold in every
    channel.
Why it matters: a fold cannot be seen in the folded artifact, and nothing recomputes it. One that was made before the
    last calibration, with another eps or from another checkpoint gives wrong answers in every mode.
Example:
    import torch
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval()
    fused = nn.Sequential(fuse_conv_bn_eval(model[0], model[1]), nn.Identity())
    torch.save(fused.state_dict(), "fused.pt")
    model[1].running_var.mul_(2)               # calibrated after it was folded
    torch.save(model.state_dict(), "model.pt")  # BN313: compare model.pt with fused.pt
Remedy: fold or export again from the very checkpoint that is deployed, in evaluation mode, after any calibration.
Limits: deviations up to 1e-5 of a scale or of the layer's output are rounding (float32; 2e-3 in float16, 1.6e-2 in
    bfloat16). A weight is recognised by its name or by the direction of its filters. Where the artifact with the batch
    norm records no eps, the one that explains most channels is taken and reported as inferred. Batch norms folded into
    the layer after them are not recognised: these are missing tensors, BN221.
Sources: torch.nn.utils.fusion.fuse_conv_bn_weights; onnxscript rewriter, _fuse_batchnorm.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bn_audit.interfaces import Rule
from bn_audit.rules._drift import stands_beside_reference
from bn_audit.rules._figures import LISTED, figure, readable
from bn_audit.rules._layers import several
from bn_audit.subject.finding import EvidenceValue, Finding, Severity
from bn_audit.subject.subject import Facts, Subject

if TYPE_CHECKING:
    from bn_audit.subject.comparison import Comparison, FoldCheck, LayerPair


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for the folds of the target that do not hold, and one for those of the reference."""
    comparison = subject.comparison
    if comparison is None:
        return
    wrong = [(pair, pair.fold) for pair in comparison.pairs if pair.fold is not None and pair.fold.holds is False]
    for folded_by_target in (True, False):
        found = [(pair, fold) for pair, fold in wrong if (pair.target is None) is folded_by_target]
        if found:
            yield _finding(comparison, found, folded_by_target=folded_by_target)


def open_questions(subject: Subject) -> Iterator[str]:
    """Yield the folds that could not be computed."""
    for pair in subject.comparison.pairs if subject.comparison is not None else ():
        if pair.fold is not None and pair.fold.holds is None:
            yield f"the fold of {pair.path}: {pair.fold.why}"


def _finding(comparison: Comparison, found: list[tuple[LayerPair, FoldCheck]], *, folded_by_target: bool) -> Finding:
    total = sum(pair.fold is not None and (pair.target is None) is folded_by_target for pair in comparison.pairs)
    pair, fold = max(found, key=lambda item: item[1].deviation)
    side = "the target" if folded_by_target else comparison.reference
    return RULE.finding(
        f"{several(len(found), 'batch norm')} of {total} that {side} has folded {'was' if len(found) == 1 else 'were'} "
        f"folded with other values ({pair.path}: {_described(fold)})",
        locations=tuple(pair.location for pair, _ in found),
        evidence={
            "wrong": len(found),
            "folded": total,
            "layers": [
                _figures(pair, fold) for pair, fold in sorted(found, key=lambda item: -item[1].deviation)[:LISTED]
            ],
        },
    )


def _described(fold: FoldCheck) -> str:
    if fold.folded_eps is not None and fold.eps is not None:
        return f"with eps {fold.folded_eps:g} instead of {fold.eps:g}"
    eps = "" if fold.eps is None else f", eps {fold.eps:g}{' inferred' if fold.eps_inferred else ''}"
    return (
        f"{fold.why}, {fold.channels} channel{'s' if fold.channels != 1 else ''} beyond the tolerance of "
        f"{readable(fold.tolerance)}{eps}"
    )


def _figures(pair: LayerPair, fold: FoldCheck) -> EvidenceValue:
    return {
        "path": pair.path,
        "weight": fold.weight,
        "into": fold.into,
        "part": fold.part,
        "deviation": figure(fold.deviation),
        "channel": fold.channel,
        "channels_beyond": fold.channels,
        "tolerance": fold.tolerance,
        "eps": fold.eps,
        "eps_inferred": fold.eps_inferred,
        "folded_eps": fold.folded_eps,
    }


RULE = Rule(
    code="BN313",
    name="fold-mismatch",
    summary="a batch norm was folded with other statistics or another eps than the reference has",
    severity=Severity.ERROR,
    needs=Facts.REFERENCE,
    concerns=stands_beside_reference,
    check=check,
    remedy="Fold or export again from the checkpoint that is deployed, in evaluation mode, after any calibration.",
    open_questions=open_questions,
    compares=True,
)
