"""How far a model's outputs move when its inputs or weights change by one unit in the last place."""

from __future__ import annotations

from collections.abc import Mapping

from bn_audit.errors import RunError
from bn_audit.experiments._comparing import largest_effect
from bn_audit.experiments._results import Noise, axes_from, reference_of
from bn_audit.running import Bench, Figures

JITTERS = 3


def response_of(bench: Bench, figures: Mapping[str, Figures]) -> Noise:
    """Return the largest response of the reference outputs."""
    reference = reference_of(figures)
    axes = axes_from(figures)
    jittered = "inputs" if bench.plan.has_floats else "weights"
    worst = 0.0
    for number in range(1, JITTERS + 1):
        bench.say(f"noise floor {number} of {JITTERS}", 1)
        try:
            if bench.plan.has_floats:
                batch = bench.plan.jittered(reference.batch, bench.job.seed + number)
                run = bench.session.run(batch, seed=bench.job.seed)
            else:
                run = bench.session.run(reference.batch, seed=bench.job.seed, weight_jitter=bench.job.seed + number)
        except RunError:
            return Noise(response=None, jittered=jittered)
        worst = max(worst, largest_effect(reference.outputs, run.outputs[0], axes))
    return Noise(response=worst, jittered=jittered)
