"""The same batch twice gives different answers.

What it checks: the same batch twice with the same seed, with another seed, and twice on one copy of the model; in
    onnxruntime also with its rewriting of graphs on and off, which must agree within ten times the model's own response
    to rounding (a warning).
Why it matters: no answer of such a model can be reproduced, and no comparison of batches means anything before this is
    settled. It is not batch dependence: the companions have no part in it.
Example:
    import torch
    from torch import nn
    class Net(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x, 0.5)  # training=True is the default: BN501 and BN502
Remedy: switch off what is random with eval() before saving or exporting, and keep state out of forward. Where the model
    samples on purpose, declare a waiver with its reason.
Limits: needs a run. Where a graph holds random operators and none of them is dropout, a sampling model may mean them,
    and the finding is a warning. Drift through statistics that a runtime overwrites is BN307 alone.
Sources: PyTorch notes, reproducibility; pytorch/pytorch issue 103681.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bn_audit.interfaces import Rule
from bn_audit.rules._figures import figure
from bn_audit.rules._observed import causes_of_randomness, observed, share, was_run
from bn_audit.subject.finding import EvidenceValue, Finding, Severity
from bn_audit.subject.run_verdict import RNG, STATEFUL
from bn_audit.subject.subject import Facts, Subject

if TYPE_CHECKING:
    from bn_audit.subject.observation import Observation

OPTIMISED = (
    "Compare both forms with the model that was exported: switch the optimisation off in the session (or keep it off "
    "when the file is optimised offline), and report the graph to the runtime."
)


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding."""
    run = observed(subject)
    what = _what(run) if run is not None else ""
    if run is None or not what:
        return
    codes = causes_of_randomness(subject, run)
    if codes == ["BN307"]:
        return
    is_unrepeatable = bool(run.repeat_effect) or RNG in run.flags or STATEFUL in run.flags
    flags: list[EvidenceValue] = [*run.flags]
    causes: list[EvidenceValue] = [*codes]
    effects = {"same_seed": run.repeat_effect, "other_seed": run.seed_effect, "second_call": run.second_call_effect}
    effects["optimised"] = run.optimisation_effect
    yield RULE.finding(
        f"{what}{f' (see {codes[0]})' if codes else ''}",
        evidence={
            "flags": flags,
            "causes": causes,
            **{name: None if effect is None else figure(effect) for name, effect in effects.items()},
        },
        severity=Severity.WARNING if _is_meant(subject, run) or not is_unrepeatable else None,
        remedy=None if is_unrepeatable else OPTIMISED,
    )


def _what(run: Observation) -> str:
    """Return what repeating showed; ``""`` where the answers are the same."""
    if run.repeat_effect:
        return f"two runs with the same seed differ by {share(run.repeat_effect)} of the largest output"
    if RNG in run.flags:
        amount = f" by {share(run.seed_effect)} of the largest output" if run.seed_effect else ""
        return f"the answer changes with the random seed{amount}"
    if STATEFUL in run.flags:
        amount = f" by {share(run.second_call_effect)} of the largest output" if run.second_call_effect else ""
        return f"a second call with the same batch differs{amount}: the model keeps state between calls"
    if run.optimisation_effect:
        amount = share(run.optimisation_effect)
        return f"the runtime's optimised form of the model answers differently by {amount} of the largest output"
    return ""


def _is_meant(subject: Subject, run: Observation) -> bool:
    """Return whether the graph draws random numbers, and none of them for dropout: a sampling model."""
    live = [call for call in subject.random_calls if call.model == run.model and call.live is True]
    return bool(live) and not any(call.is_dropout for call in live) and not run.repeat_effect


RULE = Rule(
    code="BN501",
    name="not-repeatable",
    summary="the same batch twice gives different answers",
    severity=Severity.ERROR,
    needs=Facts.OBSERVATION,
    concerns=was_run,
    check=check,
    remedy="Switch off what is random with eval() before saving or exporting, and keep state out of forward.",
)
