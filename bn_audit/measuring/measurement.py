"""One sweep of one model in this process: inputs, experiments in order, figures, observation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bn_audit import plugins
from bn_audit.errors import ArtifactError, RunError
from bn_audit.measuring.order import FINDING_INPUTS
from bn_audit.measuring.verdict import judged
from bn_audit.running import Bench, Figures, Plan, Say, Session
from bn_audit.sampling.planning import plan_inputs
from bn_audit.subject.observation import Observation
from bn_audit.subject.run import Array, Job

ENOUGH = 3
"""Rows at which first, last and middle are three places."""

REFERENCE_SIZE = 5
"""Where no size of at least `ENOUGH` was asked for: a prime that is rarely a size of the model's own."""


class OutOfTimeError(ArtifactError):
    """The time is up; no experiment takes this for the model's own failure."""


@dataclass(slots=True, kw_only=True)
class Steps:
    """Counts forward passes, and stops where the time is up or a step is known to end the process.

    Attributes:
        say: Hears of each step.
        deadline: On the clock of `time.monotonic`.
        lost: Steps that ended an earlier process, with the reason.
    """

    say: Say
    deadline: float
    time_limit: float
    lost: Mapping[str, str] = field(default_factory=dict)
    passes: int = 0

    def __call__(self, what: str, passes: int) -> None:
        """Announce a step.

        Raises:
            RunError: it must not be taken.
            OutOfTimeError: the time is up.
        """
        if what in self.lost:
            raise RunError(self.lost[what])
        if time.monotonic() > self.deadline:
            raise OutOfTimeError(
                f"the time limit of {self.time_limit:g} s passed before: {what}; raise it with --time-limit"
            )
        self.say(what, self.passes)
        self.passes += passes


def measure(
    job: Job,
    session: Session,
    say: Say,
    *,
    samples: Mapping[str, Array] | None = None,
    lost: Mapping[str, str] | None = None,
) -> Observation:
    """Return what the model does.

    Args:
        say: Called before each step with what it is and the number of forward passes so far.
        samples: Real samples by input, in place of the job's file.
        lost: Steps that ended an earlier process, with the reason; they fail with it instead.

    Raises:
        RunError: the model runs on no inputs that are known, or at no batch size asked for.
        OutOfTimeError: the time is up.
        UsageError: the job's inputs are not of the documented form.
    """
    start = time.monotonic()
    steps = Steps(say=say, deadline=start + job.time_limit, time_limit=job.time_limit, lost=lost or {})
    steps(FINDING_INPUTS, 1)
    plan = plan_inputs(session, job, samples)
    steps.passes += plan.tries - 1
    observation = measured(job, session, plan, steps)
    return replace(observation, forwards=steps.passes, seconds=time.monotonic() - start)


def measured(job: Job, session: Session, plan: Plan, say: Say) -> Observation:
    """Return the same for inputs that are known."""
    bench = Bench(session=session, plan=plan, job=job, batch_size=_reference_size(job, session, plan), say=say)
    figures: dict[str, Figures] = {}
    stopped: list[str] = []
    for experiment in plugins.experiments():
        if job.tier not in experiment.tiers or not experiment.concerns(figures):
            continue
        try:
            figures[experiment.name] = experiment.measure(bench, figures)
        except RunError as error:
            if not figures:
                raise
            stopped.append(f"not measured, {experiment.summary}: {error}")
    observation = judged(job, session, plan, figures)
    return replace(observation, remarks=(*observation.remarks, *stopped))


def _reference_size(job: Job, session: Session, plan: Plan) -> int:
    fixed = session.fixed_batch if session.fixed_batch is not None else plan.fixed_batch
    if fixed is not None:
        return fixed
    largest = max(job.batch_sizes, default=0)
    return largest if largest >= ENOUGH else REFERENCE_SIZE
