"""What the sweep says of a mutant, beside the truth."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from files import measured, written
from mutants import Mutant
from networks import Clean
from torch import nn
from truth import LIVE, effect

import bn_audit
from bn_audit.subject.observation import Observation

SAMPLES = 16


def observed(model: nn.Module, network: Clean, *, quick: bool = False, threads: int = 1) -> Observation:
    """Return what the sweep measures on a live module at the default sizes."""
    names = list(inspect.signature(network.build().forward).parameters)
    if names[:1] == ["inputs"] or len(names) < len(network.sample):
        names = [f"inputs.{index}" for index in range(len(network.sample))]
    arrays = {name: x.float().numpy() for name, x in zip(names, network.draw(SAMPLES), strict=False)}
    if network.dtype is torch.float64:
        arrays = {name: x.numpy() for name, x in zip(names, network.draw(SAMPLES), strict=False)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = bn_audit.sweep(model, inputs=arrays, quick=quick, threads=threads)
    if report.observation is None:
        raise AssertionError(f"{network.name}: {[failure.error for failure in report.failed]}")
    return report.observation


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One mutant.

    Attributes:
        is_live: The fault shows in float64.
        is_right: The verdict is of the right class.
        is_placed: The right layer is named; None where none is asked for.
        said: The verdict with its flags and place.
    """

    network: str
    fault: str
    truth: str
    is_live: bool
    is_right: bool
    is_placed: bool | None
    said: str


PYTHON_ALONE = ("capacity", "statistics move")
"""Faults that depend on Python's own numbers or flags, which no exporter keeps."""


def judged_file(mutant: Mutant, network: Clean, form: str, folder: Path) -> Judged | None:
    """Return the same of a mutant as a file; None for what an exporter does not take, or does not keep as it is."""
    if mutant.truth != "content" or mutant.fault in PYTHON_ALONE:
        return None
    try:
        path = written(network, form, folder, mutant.model)
    except Exception:  # whatever an exporter raises for a network that it does not take
        return None
    torch.backends.mha.set_fastpath_enabled(False)  # no exporter takes it
    try:
        return _judged(mutant, network, measured(path, form, threads=1), places=True)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def judged(mutant: Mutant, network: Clean, *, quick: bool = False) -> Judged:
    """Return what is said of a mutant and whether it is right."""
    return _judged(mutant, network, observed(mutant.model, network, quick=quick), places=not quick)


def _judged(mutant: Mutant, network: Clean, found: Observation, *, places: bool) -> Judged:
    is_live = effect(mutant.model, network, mutant.truth) > LIVE.get(mutant.truth, 0.5)
    place = found.first_divergence
    paths = [item.path for item in (found.first_divergence, found.combined_at) if item is not None]
    return Judged(
        network=network.name,
        fault=mutant.fault,
        truth=mutant.truth,
        is_live=is_live,
        is_right=_is_right(found, mutant.truth, is_live),
        is_placed=any(_is_within(path, mutant.path) for path in paths)
        if mutant.truth == "content" and is_live and places
        else None,
        said=f"{found.verdict} {'+'.join(found.flags)} at {place.path if place else None} {found.why}"[:150],
    )


def _is_within(path: str, faulty: str) -> bool:
    """Return whether a place lies in the faulty layer; an exporter may leave the name of a container before it out."""
    parts = faulty.split(".")
    known = [".".join(parts[start:]) for start in range(max(1, len(parts) - 1))]
    return any(path == name or path.startswith(f"{name}.") for name in known)


def _is_right(found: Observation, truth: str, is_live: bool) -> bool:
    failed = [size.batch_size for size in found.sizes if size.status != "ok"]
    if not is_live:
        return found.verdict == "independent" and not failed
    if truth == "rng":
        return "rng" in found.flags and found.verdict == "independent"
    if truth == "stateful":
        return "stateful" in found.flags and found.verdict == "independent"
    if truth == "fixed":
        return bool(failed) or found.verdict == "cannot-run"
    if truth == "alone":
        return failed == [1] and bool(found.fails_at_one)
    return found.verdict == truth
