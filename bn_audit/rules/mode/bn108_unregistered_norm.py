"""Normalisation layers hang in a plain list or dict, where the module tree does not see them.

What it checks: normalisation layers of a saved or live module that sit in an ordinary Python container or attribute
    that torch does not walk. A second reference to a registered layer is not counted.
Why it matters: eval(), train(), to(), state_dict() and parameters() walk registered modules only. An unregistered
    batch norm stays in training mode after model.eval(), stays on its old device and is missing from checkpoints.
Example:
    from torch import nn
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norms = [nn.BatchNorm2d(8)]                 # BN108
            self.found = nn.ModuleList([nn.BatchNorm2d(8)])  # silent
Remedy: keep the layers in nn.ModuleList, nn.ModuleDict or as attributes of the module.
Limits: a teacher hidden in a list on purpose is reported too: call its eval() and declare a waiver. A network
    inside an object of another class, such as an EMA helper, is judged as a model of its own where it was pickled.
    State dicts and graphs do not show such layers.
Sources: torch.nn.Module.named_modules; torch.nn.ModuleList.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._layers import by_model, several, surest
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.norm import Mode, ModeOrigin
from bn_audit.subject.subject import Facts, Subject


def concerns(subject: Subject) -> bool:
    """Return whether the artifact holds modules at all."""
    return any(norm.mode_origin is ModeOrigin.MODULE_FLAG for norm in subject.norms)


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model with normalisation layers outside its module tree."""
    for route, norms in by_model(norm for norm in subject.norms if not norm.registered).items():
        training = sum(1 for norm in norms if norm.mode is Mode.TRAIN)
        state = f", {training} of them in training mode" if training else ""
        yield RULE.finding(
            f"{several(len(norms), 'normalisation layer', route=route)} outside the module tree, where eval(), to() "
            f"and state_dict() miss {'it' if len(norms) == 1 else 'them'}{state}",
            locations=tuple(norm.location for norm in norms),
            evidence={"unregistered": len(norms), "training": training},
            confidence=surest(norms),
        )


RULE = Rule(
    code="BN108",
    name="unregistered-norm",
    summary="norm layer in a plain list or dict: eval(), to() and state_dict() miss it",
    severity=Severity.ERROR,
    needs=Facts.REGISTRY,
    concerns=concerns,
    check=check,
    remedy="Keep the layers in nn.ModuleList or nn.ModuleDict, or assign them as attributes of the module.",
)
