"""Samples mix in a layer whose effect does not reach the output today.

What it checks: the intermediate values of a run for layers in which a sample's values move with its companions, in
    models whose outputs do not.
Why it matters: a scale of zero or an unused branch hides the layer. The next training step, another checkpoint of the
    same code or another head makes the output depend on the batch.
Example:
    import torch
    from torch import nn
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn = nn.BatchNorm2d(8).train()
            nn.init.zeros_(self.bn.weight)  # zero-initialised residual branch
        def forward(self, x):
            return x + self.bn(x)  # no effect yet: BN410
Remedy: repair the layer that is named now, or remove the branch.
Limits: needs a full run. Models that sort samples or route them by their values (packed sequences, mixture of experts)
    show a place here whose rows only move: a note.
Sources: Goyal et al. 2017, section 5.1 (zero initialisation of the last scale in residual blocks).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bn_audit.interfaces import Rule
from bn_audit.rules._layers import several
from bn_audit.rules._observed import apart, batch_norm_at, locations, named, observed, quoted, reporter_of, was_run
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.run_verdict import CONTENT
from bn_audit.subject.subject import Facts, Subject

if TYPE_CHECKING:
    from bn_audit.subject.observation import Place

MOVES_ROWS = re.compile(
    r"(?:^|\.)_?(?:sort|argsort|unique|index|scatter|gather|masked_s|nonzero|take)(?!.*(?:add|reduce))"
)
"""Operators that take rows elsewhere, by their values, and combine none."""


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding."""
    run = observed(subject)
    if run is None or not run.latent or run.verdict == CONTENT:
        return
    places = apart(run.latent)
    layers = [batch_norm_at(subject, run, place) for place in places]
    codes = list(
        dict.fromkeys(
            code for layer in layers if layer is not None and (code := reporter_of(subject, layer)) is not None
        )
    )
    behind = f", and in {several(len(places) - 1, 'more place')} behind it" if len(places) > 1 else ""
    where = f" of '{run.model}'" if run.model else ""
    unjudged = [output.name for output in run.outputs if output.batch_axis is None]
    meant = f"; output {quoted(unjudged)} has no axis for the samples and may be meant to" if unjudged else ""
    without = "an output that has an axis for them" if unjudged else "an output today"
    only_moves = _only_moves(places[0])
    moved = "; a model that sorts or routes its samples by their values does so too" if only_moves else ""
    yield RULE.finding(
        f"samples{where} mix without effect on {without}: first at {named(places[0])}"
        f"{f' (see {codes[0]})' if codes else ''}{behind}{meant}{moved}",
        locations=locations(run, *places),
        evidence={"places": len(places), "causes": [*codes], "runner": run.runner},
        severity=Severity.NOTE if (unjudged or only_moves) and not codes else None,
    )


def _only_moves(place: Place) -> bool:
    """Return whether rows may only be elsewhere at a place: it moves them, or is the whole model's own result."""
    return bool(MOVES_ROWS.search(place.op)) or not (place.op or place.path or place.node)


RULE = Rule(
    code="BN410",
    name="latent-mixing",
    summary="samples mix in a layer whose effect does not reach the output today",
    severity=Severity.WARNING,
    needs=Facts.OBSERVATION,
    concerns=was_run,
    check=check,
    remedy="Repair the layer that is named, or remove the branch: another checkpoint makes the effect visible.",
)
