"""A tensor has another shape or dtype in the weights than in the model, or in the target than in the reference.

What it checks: keys that the model and the weights share, or the target and its reference, and whose shape or dtype
    differs.
Why it matters: a different shape fails at load time, with strict=False too. A different dtype is converted without a
    word: running statistics lose range and digits in half precision, and integers are not what they stand for.
Example:
    import torch
    from torch import nn
    torch.save(nn.BatchNorm2d(6).state_dict(), "weights.pt")
    model = nn.BatchNorm2d(8)  # BN223 when checked against the weights: 6 channels there, 8 here
Remedy: build the model with the sizes it was trained with; keep running statistics in float32.
Limits: statistics that are only cast to half precision are a warning. Weights in another floating-point type are
    silent: half-precision files are made so. Values are compared by BN224.
Sources: torch.nn.Module.load_state_dict.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bn_audit.interfaces import Rule
from bn_audit.rules._figures import LISTED
from bn_audit.rules._layers import several
from bn_audit.rules.loading._keys import fits_of, has_keys_to_fit, is_half_statistic, location, of_reference
from bn_audit.subject.finding import EvidenceValue, Finding, Severity
from bn_audit.subject.subject import Subject

if TYPE_CHECKING:
    from bn_audit.subject.key_alignment import KeyAlignment, KeyMismatch


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one error for what cannot be loaded, and one warning for statistics that are only cast."""
    for alignment in fits_of(subject):
        cast = tuple(item for item in alignment.mismatched if is_half_statistic(item))
        other = tuple(item for item in alignment.mismatched if not is_half_statistic(item))
        if other:
            yield _finding(alignment, other, Severity.ERROR)
        if cast:
            yield _finding(alignment, cast, Severity.WARNING)


def _finding(alignment: KeyAlignment, items: tuple[KeyMismatch, ...], severity: Severity) -> Finding:
    first = items[0]
    described: list[EvidenceValue] = [{"key": item.target, "difference": item.difference} for item in items[:LISTED]]
    return RULE.finding(
        f"{several(len(items), 'tensor')} in {alignment.target} {'does' if len(items) == 1 else 'do'} not fit "
        f"{of_reference(alignment)} ({first.target}: {first.difference})",
        locations=tuple(location(alignment, item.target) for item in items),
        evidence={"mismatched": len(items), "first": described},
        severity=severity,
    )


RULE = Rule(
    code="BN223",
    name="tensor-mismatch",
    summary="shape or dtype differs between two artifacts",
    severity=Severity.ERROR,
    concerns=has_keys_to_fit,
    compares=True,
    check=check,
    remedy="Build the model with the sizes it was trained with; keep running statistics in float32.",
)
