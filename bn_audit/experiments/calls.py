"""The norm and dropout calls of one forward pass."""

from __future__ import annotations

from collections.abc import Mapping

from bn_audit.experiments._results import Counts, figures_of, reference_of
from bn_audit.running import Bench, Experiment, Figures


def measure(bench: Bench, figures: Mapping[str, Figures]) -> Figures:
    """Return the calls, as far as the backend shows them.

    Raises:
        RunError: the model runs unwatched, as the reference run shows, and not under observation.
    """
    bench.say("norm and dropout calls", 1)
    return figures_of(Counts(calls=bench.session.calls(reference_of(figures).batch, seed=bench.job.seed)))


EXPERIMENT = Experiment(
    name="calls", summary="norm and dropout calls of one pass", order=80, measure=measure, tiers=("full",)
)
