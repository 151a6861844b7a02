"""The model's own response to a change of one unit in the last place: the yardstick for floating-point differences.

Three changes of the inputs with random signs, or of the weights where no input is of a floating-point type. Over 112
clean networks the difference between batch sizes is 0.24 to 1.7 times this response, though either spans five decades.
"""

from __future__ import annotations

from collections.abc import Mapping

from bn_audit.experiments._response import response_of
from bn_audit.experiments._results import figures_of
from bn_audit.running import Bench, Experiment, Figures


def measure(bench: Bench, figures: Mapping[str, Figures]) -> Figures:
    """Return the largest response."""
    return figures_of(response_of(bench, figures))


EXPERIMENT = Experiment(
    name="noise",
    summary="the response to a change of one unit in the last place",
    order=50,
    measure=measure,
    tiers=("full",),
)
