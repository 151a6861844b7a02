"""A layer that is claimed frozen changed between two checkpoints.

What it checks: statistics, scale and shift of every batch norm, and every other tensor, that a `frozen` pattern
    matches, beside the reference, which is the checkpoint before the run.
Why it matters: the usual ways to freeze a backbone fail silently. model.train() undoes an eval() on a part of the
    model, requires_grad=False does not stop the statistics, and weight decay moves parameters without gradients.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    torch.save(model.state_dict(), "before.pt")
    model.requires_grad_(False).train()         # the statistics still move
    model(torch.randn(4, 3, 8, 8))
    torch.save(model.state_dict(), "after.pt")  # bn-audit compare before.pt after.pt --frozen '*': BN602
Remedy: bn_audit.freeze_bn(model, patterns) before the run, with the same patterns, keeps the layers in evaluation
    through every model.train() (or call eval() on them in an overridden train()); keep their parameters out of the
    optimizer. bn_audit.guard(model) around the validation pass names a layer whose statistics still move.
Limits: equal within 1e-6 (float32), 1e-3 (float16) or 8e-3 (bfloat16); a batch counter that moved over equal statistics
    is not counted. It does not say when they moved.
Sources: pytorch/pytorch issues 66073 and 86590; mmdetection ResNet.train with norm_eval.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._drift import claimed_frozen, described, drifts_of, evidence_of, largest, tensor_location
from bn_audit.rules._figures import readable
from bn_audit.rules._layers import several
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.subject import Facts, Subject


def concerns(subject: Subject) -> bool:
    """Return whether a reference and a freeze policy were given."""
    return subject.comparison is not None and bool(subject.frozen)


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding for batch norms and one for other tensors."""
    comparison = subject.comparison
    if comparison is None:
        return
    layers = claimed_frozen(subject)
    frozen = [drift for drift in drifts_of(subject) if drift.location in layers]
    moved = [drift for drift in frozen if drift.statistics_moved or drift.affine_moved]
    most = largest(moved, roles=("mean", "variance", "weight", "bias"))
    if most is not None:
        yield RULE.finding(
            f"{len(moved)} of {several(len(frozen), 'batch-norm layer')} claimed frozen moved since "
            f"{comparison.reference} ({described(*most)})",
            locations=tuple(drift.location for drift in moved),
            evidence=evidence_of(moved),
        )
    names = {name for pattern in subject.frozen for name in pattern.tensors}
    tensors = [item for item in comparison.values.mismatched if item.target in names]
    if tensors:
        worst = max(tensors, key=lambda item: item.size)
        yield RULE.finding(
            f"{several(len(tensors), 'tensor')} claimed frozen moved since {comparison.reference} ({worst.target}: by "
            f"{readable(worst.size)} of its largest element in channel {worst.channel}; tolerance "
            f"{readable(worst.tolerance)})",
            locations=tuple(tensor_location(item.target) for item in tensors),
            evidence={"tensors": len(tensors), "first": [item.target for item in tensors[:10]]},
        )


RULE = Rule(
    code="BN602",
    name="frozen-statistics-moved",
    summary="a layer claimed frozen changed between two checkpoints",
    severity=Severity.ERROR,
    needs=Facts.REFERENCE,
    concerns=concerns,
    supersedes=("BN212", "BN224"),
    check=check,
    remedy="Keep the frozen layers in evaluation through every model.train(), with bn_audit.freeze_bn(model, patterns) "
    "or an overridden train(), and their parameters out of the optimizer.",
    compares=True,
)
