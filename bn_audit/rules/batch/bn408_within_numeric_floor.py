"""Answers differ a little between batch sizes, and floating point explains it.

What it checks: the largest difference between batch sizes that a run explains by rounding, where it is larger than what
    torch.testing.assert_close accepts in the model's element type.
Why it matters: it does not make the model wrong. Another number of samples runs other kernels, which add in another
    order; a test that compares batches with fixed tolerances fails on such a model, and this is why.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(*[nn.Linear(256, 256) for _ in range(40)]).eval()
    batch = torch.randn(8, 256)
    torch.testing.assert_close(model(batch)[:1], model(batch[:1]))  # may fail, by rounding alone: BN408
Remedy: none is needed; compare with the noise floor that the run states, or in double precision.
Limits: needs a run. Explained means: gone in double precision, or within ten times the model's own response to a change
    of its input by one unit in the last place.
Sources: PyTorch notes, numerical accuracy; pytorch/pytorch issue 29727.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._figures import figure, readable
from bn_audit.rules._observed import observed, share, was_run
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.subject import Facts, Subject

TOLERANCES = {"float64": 1e-7, "float32": 1.3e-6, "float16": 1e-3, "bfloat16": 1.6e-2}
"""The relative tolerances of ``torch.testing.assert_close``: smaller differences surprise nobody."""


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding."""
    run = observed(subject)
    if run is None or run.rounding_only is None:
        return
    if run.rounding_only > TOLERANCES.get(run.dtype, TOLERANCES["float32"]):
        floor = f"; the noise floor of this model is {readable(run.noise_floor)}" if run.noise_floor else ""
        yield RULE.finding(
            f"answers differ between runs by up to {share(run.rounding_only)} of the largest output through rounding "
            f"alone{floor}",
            evidence={
                "rounding_only": figure(run.rounding_only),
                "noise_floor": None if run.noise_floor is None else figure(run.noise_floor),
                "dtype": run.dtype,
            },
        )


RULE = Rule(
    code="BN408",
    name="within-numeric-floor",
    summary="a difference between batch sizes is explained by floating point",
    severity=Severity.NOTE,
    needs=Facts.OBSERVATION,
    concerns=was_run,
    check=check,
    remedy="None is needed: compare with the noise floor that the run states, or in double precision.",
)
