"""The same model as the backend runs it otherwise: optimisation changes rounding, and may change the meaning."""

from __future__ import annotations

from collections.abc import Mapping

from bn_audit.errors import RunError
from bn_audit.experiments._comparing import agree, largest_effect
from bn_audit.experiments._results import Optimisation, axes_from, figures_of, is_random, reference_of
from bn_audit.running import Bench, Experiment, Figures


def measure(bench: Bench, figures: Mapping[str, Figures]) -> Figures:
    """Return the difference between the two forms; where randomness is live, whether the other form has it too."""
    reference = reference_of(figures)
    try:
        session = bench.session.sibling()
        if session is None:
            return figures_of(Optimisation(effect=None))
        bench.say("the other form of the model", 2)
        first, second = session.run(reference.batch, reference.batch, seed=bench.job.seed).outputs
    except RunError:
        return figures_of(Optimisation(effect=None))
    if is_random(figures):
        return figures_of(Optimisation(effect=None, removes_randomness=agree(first, second)))
    return figures_of(Optimisation(effect=largest_effect(reference.outputs, first, axes_from(figures))))


EXPERIMENT = Experiment(
    name="optimisation",
    summary="the model as the backend runs it otherwise",
    order=75,
    measure=measure,
    tiers=("full",),
)
