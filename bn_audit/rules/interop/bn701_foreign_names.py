"""Tensors of a norm layer have the names of another framework.

What it checks: names such as gamma, beta, moving_mean and moving_variance that had to be matched with PyTorch's weight,
    bias, running_mean and running_var to compare an artifact with its reference, or to fit weights to a model.
Why it matters: load_state_dict knows no aliases: with strict=False it skips every one of these tensors. The frameworks
    also differ in what the names mean: TensorFlow's momentum is one minus torch's, and its eps is 1e-3 by default.
Example:
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    state = model.state_dict()
    state["1.gamma"], state["1.beta"] = state.pop("1.weight"), state.pop("1.bias")
    torch.save(state, "ported.pt")  # BN701 beside the state dict itself
Remedy: rename the tensors when converting, and check eps and momentum of every layer along with them.
Limits: a note, since the values are compared under either name. Without a reference names alone are not judged: many
    modules of PyTorch call a scale gamma.
Sources: tf.keras.layers.BatchNormalization; burn nn/norm/batch.rs; caffe2 spatial_bn_op.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bn_audit.interfaces import Rule
from bn_audit.rules._figures import LISTED
from bn_audit.rules._layers import several
from bn_audit.rules.loading._keys import has_keys_to_fit
from bn_audit.subject.finding import Finding, Location, Severity
from bn_audit.subject.subject import Subject

if TYPE_CHECKING:
    from bn_audit.subject.key_alignment import KeyAlignment


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding for each pair of models."""
    alignments = subject.comparison.keys if subject.comparison is not None else ()
    for alignment in (*((subject.loading,) if subject.loading is not None else ()), *alignments):
        if alignment.foreign:
            yield _finding(alignment)


def _finding(alignment: KeyAlignment) -> Finding:
    foreign = alignment.foreign
    return RULE.finding(
        f"{several(len(foreign), 'tensor')} matched under {'its' if len(foreign) == 1 else 'their'} name of another "
        f"framework ({foreign[0]})",
        locations=tuple(
            Location(model=alignment.target_route, path=name.rpartition(".")[0], tensor=name.rpartition(".")[2])
            for name in foreign
        ),
        evidence={"tensors": len(foreign), "first": list(foreign[:LISTED])},
    )


RULE = Rule(
    code="BN701",
    name="foreign-names",
    summary="names of another framework (gamma, beta, moving_mean, moving_variance)",
    severity=Severity.NOTE,
    concerns=has_keys_to_fit,
    check=check,
    remedy="Rename the tensors when converting, and check eps and momentum of every layer along with them.",
    compares=True,
)
