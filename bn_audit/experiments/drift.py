"""Stored tensors that identical calls change along with their answers: the runtime overwrites shared statistics."""

from __future__ import annotations

from collections.abc import Mapping

from bn_audit.experiments._results import Drift, Repeat, figures_of, found, is_random, reference_of
from bn_audit.running import Bench, Experiment, Figures


def measure(_bench: Bench, figures: Mapping[str, Figures]) -> Figures:
    """Return the tensors that changed, where the second of two identical calls gave another answer."""
    repeat = found(figures, Repeat)
    drifts = repeat is not None and repeat.second_call > 0 and not is_random(figures)
    return figures_of(Drift(tensors=reference_of(figures).changed if drifts else ()))


EXPERIMENT = Experiment(
    name="drift", summary="stored tensors that identical calls overwrite", order=15, measure=measure
)
