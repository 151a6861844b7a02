"""A tensor has another shape or dtype in the weights than in the model.

What it checks: keys that the model and the weights share and whose shape or dtype differs.
Why it matters: a different shape fails at load time, with strict=False too. A different dtype is converted without a
    word: running statistics lose range and digits in half precision, and integers are not what they stand for.
Example:
    import torch
    from torch import nn
    torch.save(nn.BatchNorm2d(6).state_dict(), "weights.pt")
    model = nn.BatchNorm2d(8)  # BN223 when checked against the weights: 6 channels there, 8 here
Remedy: build the model with the sizes it was trained with; keep running statistics in float32.
Limits: statistics that are only cast to half precision are a warning. Weights in another floating-point type are
    silent: half-precision files are made so. Values are not compared.
Sources: torch.nn.Module.load_state_dict.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._figures import LISTED
from bn_audit.rules._layers import several
from bn_audit.rules.loading._keys import is_half_statistic, is_loaded, location
from bn_audit.subject.finding import EvidenceValue, Finding, Severity
from bn_audit.subject.subject import Loading, Subject


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one error for what cannot be loaded, and one warning for statistics that are only cast."""
    loading = subject.loading
    if loading is None:
        return
    cast = tuple(pair for pair in loading.mismatched if is_half_statistic(*pair))
    other = tuple(pair for pair in loading.mismatched if not is_half_statistic(*pair))
    if other:
        yield _finding(loading, other, Severity.ERROR)
    if cast:
        yield _finding(loading, cast, Severity.WARNING)


def _finding(loading: Loading, pairs: tuple[tuple[str, str], ...], severity: Severity) -> Finding:
    key, difference = pairs[0]
    described: list[EvidenceValue] = [{"key": name, "difference": text} for name, text in pairs[:LISTED]]
    return RULE.finding(
        f"{several(len(pairs), 'tensor')} in {loading.weights} {'does' if len(pairs) == 1 else 'do'} not fit the model "
        f"({key}: {difference})",
        locations=tuple(location(name) for name, _ in pairs),
        evidence={"mismatched": len(pairs), "first": described},
        severity=severity,
    )


RULE = Rule(
    code="BN223",
    name="tensor-mismatch",
    summary="shape or dtype differs between model and weights",
    severity=Severity.ERROR,
    concerns=is_loaded,
    check=check,
    remedy="Build the model with the sizes it was trained with; keep running statistics in float32.",
)
