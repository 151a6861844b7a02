"""The flag track_running_stats says the opposite of what the layer stores.

What it checks: batch norms whose flag is False although they hold running statistics, or True although they hold none.
Why it matters: the buffers decide, not the flag. With buffers and the flag off, evaluation uses the stored statistics
    but training no longer updates them; without buffers and the flag on, the layer uses the batch's statistics in
    either mode. Code that reads the flag believes the opposite.
Example:
    from torch import nn
    layer = nn.BatchNorm2d(8)
    layer.track_running_stats = False            # BN104: the buffers stay and are used in eval()
    other = nn.BatchNorm2d(8)
    other.running_mean = other.running_var = None  # BN104: the flag still says True
Remedy: to stop updates, call eval() on the layer and leave the flag alone; to drop the statistics, create the layer
    with track_running_stats=False.
Limits: fine-tuning code flips the flag to freeze statistics, which works since torch 1.6 and is still worth knowing.
    torch before 1.6 used the batch's statistics whenever the flag was off.
Sources: torch/nn/modules/batchnorm.py, _BatchNorm.forward; pytorch/pytorch issues 37823, 44415 and 20967.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._layers import batch_norm_counts, by_model, counted, stores_no_statistics, surest
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.norm import NormLayer
from bn_audit.subject.subject import Facts, Subject

FLAG_OFF = "track_running_stats False beside stored statistics: eval() uses these, training does not update them"
FLAG_ON = "track_running_stats True and no statistics: the current batch's are used, even after eval()"


def concerns(subject: Subject) -> bool:
    """Return whether any batch norm records the flag."""
    return any(norm.track_running_stats is not None for norm in subject.batch_norms)


def check(subject: Subject) -> Iterator[Finding]:
    """Yield one finding for each model and direction of the contradiction."""
    totals = batch_norm_counts(subject)
    for route, norms in by_model(subject.batch_norms).items():
        for cause, layers in (
            (FLAG_OFF, [norm for norm in norms if _is_off_beside_buffers(norm)]),
            (FLAG_ON, [norm for norm in norms if _is_on_without_buffers(norm)]),
        ):
            if layers:
                total = totals[route]
                yield RULE.finding(
                    f"{counted(len(layers), total, ('has', 'have'), route=route)} {cause}",
                    locations=tuple(norm.location for norm in layers),
                    evidence={
                        "layers": len(layers),
                        "batch_norms": total,
                        "track_running_stats": layers[0].track_running_stats,
                    },
                    confidence=surest(layers),
                )


def _is_off_beside_buffers(norm: NormLayer) -> bool:
    return norm.track_running_stats is False and norm.has_running_statistics


def _is_on_without_buffers(norm: NormLayer) -> bool:
    return norm.track_running_stats is True and stores_no_statistics(norm) and not norm.uninitialised


RULE = Rule(
    code="BN104",
    name="track-flag-contradiction",
    summary="track_running_stats says the opposite of the stored buffers",
    severity=Severity.WARNING,
    needs=Facts.SETTINGS,
    concerns=concerns,
    check=check,
    remedy="Make flag and buffers agree: freeze a layer with eval() instead of the flag, and drop statistics by "
    "creating the layer with track_running_stats=False.",
)
