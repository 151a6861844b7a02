"""Padding a sample to the size of its largest companion changes its answer.

What it checks: the same batch as it is and with its inputs padded by zeros along an axis that the model leaves open, as
    a batch with a larger companion would be; the part of the answer that both have is compared.
Why it matters: images and sequences of a batch are padded to the largest of them. Where the padding takes part in
    convolutions, norms or averages, a sample's answer depends on who else was batched with it, though no values mix.
Example:
    import torch
    from torch import nn
    class Net(nn.Module):
        def forward(self, tokens, mask):
            return tokens.mean(dim=1)  # the padding counts: BN406
    class Fine(nn.Module):
        def forward(self, tokens, mask):
            return (tokens * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)  # silent
Remedy: mask what is padded in attention, norms and averages, group samples of like size, or run them one by one.
Limits: needs a full run of a model with an open size. Zeros are taken for padding, and a mask among the inputs is
    padded with zeros too. Without a mask or lengths a model cannot know what is padding: for sequences of integers,
    which are padded as a rule, that is a note; images and other numbers are silent, since most are never padded.
Sources: pytorch/audio issue 4205; pytorch/vision issue 4257; huggingface/transformers issue 39382.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._figures import figure
from bn_audit.rules._observed import observed, share, was_run
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.subject import Facts, Subject

MASK_NAMES = ("mask", "length", "lens", "valid")
"""Parts of the names of inputs that tell a model what is padding."""

TOKEN_TYPES = ("int32", "int64")


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding."""
    run = observed(subject)
    if run is None or not run.padding_effect or run.padding_effect <= (run.noise_floor or 0.0):
        return
    told = any(word in used.name.lower() for used in run.inputs for word in MASK_NAMES)
    if not told and not any(used.dtype in TOKEN_TYPES and used.shape for used in run.inputs):
        return
    known = "although an input tells what is padding" if told else "and no input tells the model what is padding"
    yield RULE.finding(
        f"padding a sample changes its answer by up to {share(run.padding_effect)} of its largest output, {known}",
        evidence={"padding_effect": figure(run.padding_effect), "has_mask": told, "runner": run.runner},
        severity=None if told else Severity.NOTE,
    )


RULE = Rule(
    code="BN406",
    name="companions-sizes-matter",
    summary="padding to the largest companion changes an answer",
    severity=Severity.WARNING,
    needs=Facts.OBSERVATION,
    concerns=was_run,
    check=check,
    remedy="Mask what is padded in attention, norms and averages, group samples of like size, or run them one by one.",
)
