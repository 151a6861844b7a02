"""Model and weights, or target and reference, differ in batch counters only.

What it checks: num_batches_tracked that is missing from the weights, or unexpected in them, while the rest of its layer
    fits; likewise for an artifact beside its reference.
Why it matters: the counter is not used in evaluation, so nothing is wrong there. With momentum=None it is the divisor
    of the running average, and without it a resumed training starts the average again: then it is a warning.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    weights = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(weights, "weights.pt")  # BN202 when checked against the model
Remedy: none needed for deployment; load with the counters to resume training with momentum=None.
Limits: weights from torch before 0.4.1, InPlaceABN and Candle have no counters, and that is no fault: a plain dict
    loads with strict=True. A state dict from which counters were deleted still records version 2 in its metadata, and
    strict=True raises for it. A counter that
    is missing together with its layer's other tensors is part of BN221.
Sources: torch/nn/modules/batchnorm.py, _load_from_state_dict (version 2); pytorch/pytorch issue 8430.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bn_audit.interfaces import Rule
from bn_audit.rules.loading._keys import fits_of, has_keys_to_fit, location, lone_counters
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.subject import Subject

if TYPE_CHECKING:
    from bn_audit.subject.key_alignment import KeyAlignment


def check(subject: Subject) -> Iterator[Finding]:
    """Yield a note, and a warning for layers whose statistics are plain averages."""
    cumulative = {norm.path for norm in subject.norms if norm.cumulative}
    for alignment in fits_of(subject):
        missing = lone_counters(alignment.missing)
        needed = tuple(key for key in missing if key.rpartition(".")[0] in cumulative)
        if needed:
            yield _finding(alignment, needed, (), Severity.WARNING)
        missing = tuple(key for key in missing if key.rpartition(".")[0] not in cumulative)
        unexpected = lone_counters(alignment.unexpected)
        if missing or unexpected:
            yield _finding(alignment, missing, unexpected, Severity.NOTE)


def _finding(
    alignment: KeyAlignment, missing: tuple[str, ...], unexpected: tuple[str, ...], severity: Severity
) -> Finding:
    parts = [f"{len(missing)} missing from"] if missing else []
    parts += [f"{len(unexpected)} unexpected in"] if unexpected else []
    reason = ", needed since momentum is None" if severity is Severity.WARNING else ", the rest of the layers fits"
    return RULE.finding(
        f"batch counters: {' and '.join(parts)} {alignment.target}{reason}",
        locations=tuple(location(alignment, key) for key in missing + unexpected),
        evidence={"missing": len(missing), "unexpected": len(unexpected)},
        severity=severity,
    )


RULE = Rule(
    code="BN202",
    name="missing-batch-counter",
    summary="only num_batches_tracked differs between two artifacts",
    severity=Severity.NOTE,
    concerns=has_keys_to_fit,
    compares=True,
    check=check,
    remedy="Nothing for deployment; load with the counters to resume training with momentum=None.",
)
