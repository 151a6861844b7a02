"""What the training flags of a model's batch norms say together."""

from __future__ import annotations

from bn_audit.rules._layers import stores_no_statistics
from bn_audit.subject.norm import Mode, ModeOrigin, NormLayer
from bn_audit.subject.subject import Subject


def obeys_flag(norm: NormLayer) -> bool:
    """Return whether ``train()`` and ``eval()`` decide what this batch norm does.

    False for a layer without statistics (BN103) or before its first batch (BN217): no call of ``eval()`` helps there.
    """
    return (
        norm.kind.is_batch_norm
        and norm.mode_origin is ModeOrigin.MODULE_FLAG
        and not norm.uninitialised
        and not stores_no_statistics(norm)
    )


def is_training(norm: NormLayer) -> bool:
    """Return whether the flag makes this layer normalise with the current batch."""
    return obeys_flag(norm) and norm.mode is Mode.TRAIN and norm.uses_batch_statistics is True


def is_evaluating(norm: NormLayer) -> bool:
    """Return whether the flag makes this layer normalise with its running statistics."""
    return obeys_flag(norm) and norm.mode is Mode.EVAL and norm.uses_batch_statistics is False


def eval_remedy(subject: Subject) -> str:
    """Return what to do about a layer in training mode."""
    advice = "Call model.eval() right before saving, and save a copy for deployment"
    if subject.has_optimizer_state:
        return (
            f"{advice}; if this is a training checkpoint to continue from, as the optimizer state beside the model "
            "suggests, audit it with --intent resume"
        )
    return f"{advice}; audit a training checkpoint with --intent resume"
