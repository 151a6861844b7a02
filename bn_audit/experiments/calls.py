"""The norm and dropout calls of one forward pass."""

from __future__ import annotations

from collections.abc import Mapping

from bn_audit.errors import RunError
from bn_audit.experiments._results import Counts, figures_of, reference_of
from bn_audit.running import Bench, Experiment, Figures


def measure(bench: Bench, figures: Mapping[str, Figures]) -> Figures:
    """Return the calls, as far as the backend shows them."""
    bench.say("norm and dropout calls", 1)
    try:
        calls = bench.session.calls(reference_of(figures).batch, seed=bench.job.seed)
    except RunError:
        calls = None  # the model runs unwatched, as the reference run shows, and not under observation
    return figures_of(Counts(calls=calls))


EXPERIMENT = Experiment(
    name="calls", summary="norm and dropout calls of one pass", order=80, measure=measure, tiers=("full",)
)
