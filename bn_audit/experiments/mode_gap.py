"""The reference batch with all norm layers in evaluation and in training mode: how much does the wrong mode matter?"""

from __future__ import annotations

from collections.abc import Mapping

from bn_audit.errors import RunError
from bn_audit.experiments._comparing import largest_effect
from bn_audit.experiments._results import ModeGap, axes_from, figures_of, is_steady, reference_of
from bn_audit.running import Bench, Experiment, Figures
from bn_audit.subject.run import Outputs


def measure(bench: Bench, figures: Mapping[str, Figures]) -> Figures:
    """Return the difference between the two modes, relative to evaluation."""
    outputs = [_outputs(bench, figures, training=training) for training in (False, True)]
    evaluating, training = outputs
    if evaluating is None or training is None:
        return figures_of(ModeGap(effect=None))
    return figures_of(ModeGap(effect=largest_effect(evaluating, training, axes_from(figures))))


def _outputs(bench: Bench, figures: Mapping[str, Figures], *, training: bool) -> Outputs | None:
    session = bench.session.in_mode(training=training, paths=tuple(bench.session.norm_paths))
    if session is None or not bench.session.norm_paths:
        return None
    bench.say(f"norm layers in {'training' if training else 'evaluation'} mode", 1)
    try:
        return session.run(reference_of(figures).batch, seed=bench.job.seed).outputs[0]
    except RunError:
        return None  # batch norm refuses one value for each channel in training mode


EXPERIMENT = Experiment(
    name="mode-gap",
    summary="norm layers in evaluation against training mode",
    order=70,
    measure=measure,
    tiers=("full",),
    concerns=is_steady,
)
