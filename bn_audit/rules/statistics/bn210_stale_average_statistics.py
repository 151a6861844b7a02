"""An averaged copy of a model carries running statistics that are not its own.

What it checks: in a file with a model and an average of it (EMA, SWA, teacher), or where one is the other's reference,
    whether the copy's statistics equal the live model's exactly although its scales and shifts differ, or are still
    initial although the live ones moved.
Why it matters: averaged weights produce other activations than the live ones, so they need statistics of their own.
    torch's AveragedModel and many EMA helpers copy the live buffers or leave them as they were at the start.
Example:
    import torch
    from torch import nn
    from torch.optim.swa_utils import AveragedModel
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    averaged = AveragedModel(model)  # averages parameters and copies buffers
    torch.save({"model": model.state_dict(), "ema": averaged.state_dict()}, "checkpoint.pt")  # BN210 after training
Remedy: run torch.optim.swa_utils.update_bn(loader, averaged) before saving, or average the buffers as well.
Limits: a note, since the live statistics are often close enough, and a momentum encoder is never evaluated; a warning
    where they are initial. Needs both models, and a name that marks the average as one. A copy that equals the live
    model in every parameter of its batch norms is silent, and so are averaged statistics.
Sources: torch.optim.swa_utils.AveragedModel and update_bn; pytorch/ignite issue 2590.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.interfaces import Rule
from bn_audit.rules._drift import by_model, drifts_of
from bn_audit.rules._layers import counted
from bn_audit.rules._values import Column, LayerValues, values_of
from bn_audit.rules.statistics._averages import live_twins, unwrapped
from bn_audit.subject.finding import Finding, Severity
from bn_audit.subject.subject import Facts, Subject


def concerns(subject: Subject) -> bool:
    """Return whether a model stands beside an average of it."""
    return bool(live_twins(subject)) or bool(_averaged_routes(subject))


def check(subject: Subject) -> Iterator[Finding]:
    """Yield at most one finding for each averaged model."""
    values = values_of(subject)
    groups = values.batch_norms_by_model()
    for route, live in live_twins(subject).items():
        originals = {unwrapped(layer.norm.path): layer for layer in groups.get(live.route, ())}
        pairs = [
            (layer, originals[unwrapped(layer.norm.path)])
            for layer in groups.get(route, ())
            if unwrapped(layer.norm.path) in originals and layer.mean is not None and layer.variance is not None
        ]
        yield from _judge(route, live.route, pairs)
    yield from _beside_reference(subject)
    values.raise_for_errors()


def _averaged_routes(subject: Subject) -> frozenset[str]:
    """Return the routes of the models of which either side is an average and the other is not."""
    models = subject.comparison.models if subject.comparison is not None else ()
    return frozenset(pair.target for pair in models if pair.reference_averaged != pair.target_averaged)


def _beside_reference(subject: Subject) -> Iterator[Finding]:
    averaged = _averaged_routes(subject)
    for route, drifts in by_model(drifts_of(subject)).items():
        copied = [drift for drift in drifts if drift.equal_statistics and drift.equal_affine is False]
        if route in averaged and copied and subject.comparison is not None:
            yield RULE.finding(
                f"{counted(len(copied), len(drifts), ('has', 'have'), route=route)} exactly the statistics of "
                f"{subject.comparison.reference} although the averaged weights differ",
                locations=tuple(drift.location for drift in copied),
                evidence={"copied": len(copied), "compared": len(drifts), "live_model": subject.comparison.reference},
            )


def _judge(route: str, live: str, pairs: list[tuple[LayerValues, LayerValues]]) -> Iterator[Finding]:
    initial = [copy for copy, original in pairs if copy.has_initial_statistics and not original.has_initial_statistics]
    name = f"'{live}'" if live else "the model at the top"
    copied = [copy for copy, original in pairs if _same_statistics(copy, original)]
    if initial:
        yield RULE.finding(
            f"{counted(len(initial), len(pairs), ('has', 'have'), route=route)} the initial statistics mean 0 "
            f"and variance 1 while those of {name} moved",
            locations=tuple(layer.norm.location for layer in initial),
            evidence={"initial": len(initial), "compared": len(pairs), "live_model": live},
            severity=Severity.WARNING,
        )
    elif pairs and len(copied) == len(pairs) and any(_different_weights(copy, original) for copy, original in pairs):
        yield RULE.finding(
            f"{counted(len(copied), len(pairs), ('has', 'have'), route=route)} exactly the statistics of "
            f"{name} although the averaged weights differ",
            locations=tuple(layer.norm.location for layer in copied),
            evidence={"copied": len(copied), "compared": len(pairs), "live_model": live},
        )


def _same_statistics(one: LayerValues, other: LayerValues) -> bool:
    return _same(one.mean, other.mean) and _same(one.variance, other.variance) and not one.has_initial_statistics


def _different_weights(one: LayerValues, other: LayerValues) -> bool:
    return not (_same(one.weight, other.weight) and _same(one.bias, other.bias))


def _same(one: Column | None, other: Column | None) -> bool:
    return (one is None and other is None) or (one is not None and other is not None and one.values == other.values)


RULE = Rule(
    code="BN210",
    name="stale-average-statistics",
    summary="an averaged copy (EMA, SWA) carries statistics that are not its own",
    severity=Severity.NOTE,
    needs=Facts.VALUES,
    concerns=concerns,
    check=check,
    remedy="Run torch.optim.swa_utils.update_bn on the averaged model before saving, or average the buffers as well.",
    compares=True,
)
