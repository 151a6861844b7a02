"""InstanceNorm keeps running statistics, so evaluation computes something else than training.

What it checks: instance norms that store a running mean and variance and whose flag does not switch them off.
Why it matters: in training mode such a layer normalises each sample with its own statistics; in evaluation mode it
    uses fixed ones, like a batch norm. The output changes in kind, and models trained for style or contrast
    normalisation usually get worse in evaluation mode.
Example:
    from torch import nn
    tracked = nn.InstanceNorm2d(8, track_running_stats=True)  # BN506
    plain = nn.InstanceNorm2d(8)                              # silent: torch's default
Remedy: create the layer with track_running_stats=False, as is the default, and drop running_* from the state dict.
Limits: some models use it on purpose and are evaluated that way. In a state dict an InstanceNorm with statistics looks
    like a batch norm and is found by its name only.
Sources: torch.nn.InstanceNorm2d; junyanz/pytorch-CycleGAN-and-pix2pix issue 395; pytorch/pytorch issue 58843.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._layers import by_model, several, surest
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.norm import NormKind, NormLayer
from bn_audit.subject.subject import Subject


def concerns(subject: Subject) -> bool:
    """Return whether there is an instance norm."""
    return any(norm.kind is NormKind.INSTANCE_NORM for norm in subject.norms)


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model with tracked instance norms."""
    for route, norms in by_model(filter(_is_tracked, subject.norms)).items():
        yield RULE.finding(
            f"{several(len(norms), 'InstanceNorm layer', route=route)} with running statistics: eval() uses these "
            "instead of each sample's own",
            locations=tuple(norm.location for norm in norms),
            evidence={"tracked": len(norms)},
            confidence=surest(norms),
        )


def _is_tracked(norm: NormLayer) -> bool:
    return (
        norm.kind is NormKind.INSTANCE_NORM
        and norm.has_running_statistics
        and norm.track_running_stats is not False
        and not norm.uninitialised
    )


RULE = Rule(
    code="BN506",
    name="tracked-instance-norm",
    summary="InstanceNorm with running statistics changes meaning in eval",
    severity=Severity.WARNING,
    concerns=concerns,
    check=check,
    remedy="Create the layer with track_running_stats=False and drop running_* from the state dict.",
)
