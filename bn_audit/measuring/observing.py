"""From an artifact to its observation: which model, which backend, in which process."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace

from bn_audit.containers.target import FactoryTarget, FileTarget, ModuleTarget, Target
from bn_audit.errors import ArtifactError
from bn_audit.measuring.opening import backends
from bn_audit.measuring.reproduction import command_of
from bn_audit.options import SweepOptions
from bn_audit.running import Say
from bn_audit.subject.observation import CANNOT_RUN, Observation
from bn_audit.subject.report import Skipped
from bn_audit.subject.run import Array, Job
from bn_audit.subject.subject import Form, Model, Subject

STAGE = "run"
"""How a report calls what was not, or could not be, run."""


def observe(
    subject: Subject,
    target: Target,
    options: SweepOptions,
    *,
    weights: str | None = None,
    samples: Mapping[str, Array] | None = None,
    say: Say | None = None,
) -> Observation | Skipped:
    """Return what the model of an artifact does when it is run, or why it is not run.

    A file's model and a factory's run in a child process, a live module on a deep copy in this one.

    Args:
        weights: State dict that is loaded into a factory's model.
        samples: Real samples by input; the name ``""`` stands for the only one.
        say: Called before each step with what it is and the number of forward passes so far.

    Raises:
        RunError: the model cannot be loaded or run, or the time is up.
        UsageError: the inputs are not described in the documented form.
    """
    announce = say or _silence
    model = _chosen(subject)
    if model is None:
        reason = "a state dict has no code to run: name a factory that builds the model, with --weights"
        return Skipped(code=STAGE, reason=reason)
    job = _job(subject, target, model, options, weights)
    refusal = _refusal(job, target)
    if refusal:
        return Skipped(code=STAGE, reason=refusal)
    if isinstance(target, ModuleTarget):
        from bn_audit.measuring.measurement import measure
        from bn_audit.measuring.opening import opened_live

        with opened_live(target.module, job) as session:
            seen = measure(job, session, announce, samples=samples)
            return _completed(seen, subject, job, in_child=False)
    from bn_audit.measuring.supervision import supervised

    observation = _completed(supervised(job, announce, samples), subject, job, in_child=True)
    return observation if samples is not None else observation.with_command(command_of(subject.source, job))


def cannot_run(options: SweepOptions, error: ArtifactError) -> Observation:
    """Return the observation of a model that gave no answer at all."""
    return Observation(
        runner="",
        device=options.device,
        seed=options.seed,
        tier=options.tier,
        verdict=CANNOT_RUN,
        why=str(error),
    )


def _silence(_what: str, _passes: int) -> None:
    """Say nothing."""


def _chosen(subject: Subject) -> Model | None:
    """Return the model to run: the first that has code and is no average of another, else the first that has code."""
    runnable = [model for model in subject.models if model.form is not Form.STATE_DICT]
    plain = [model for model in runnable if not model.averaged]
    return next(iter([*plain, *runnable]), None)


def _job(subject: Subject, target: Target, model: Model, options: SweepOptions, weights: str | None) -> Job:
    source = str(target.source.path) if isinstance(target, FileTarget) else target.name
    return Job(
        source=source,
        format=subject.format,
        route=model.route,
        weights=weights,
        device=options.device,
        dtype=options.dtype,
        threads=options.threads,
        seed=options.seed,
        batch_sizes=options.batch_sizes,
        tier=options.tier,
        inputs=options.inputs,
        inputs_file=options.inputs_file,
        batch_axis=options.batch_axis,
        trust=options.trust,
        time_limit=options.time_limit,
        memory_limit=options.memory_limit,
    )


def _refusal(job: Job, target: Target) -> str:
    """Return why the model is not run; ``""`` where it is."""
    if isinstance(target, ModuleTarget):
        return ""
    runners = backends(job)
    if not runners:
        return f"no backend runs {job.format}"
    if isinstance(target, FactoryTarget) or job.trust or not all(runner.runs_code for runner in runners):
        return ""
    return f"needs --trust: loading a {job.format} file can run code in it"


def _completed(observation: Observation, subject: Subject, job: Job, *, in_child: bool) -> Observation:
    """Return the observation with what the reader must know about how the model was chosen and run."""
    told = []
    others = [model.route or "(root)" for model in subject.models if model.route != observation.model]
    if others:
        shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        told.append(f"of {len(others) + 1} models, {observation.model or '(root)'} was run; not {shown}")
    if job.memory_limit is not None and not (in_child and sys.platform.startswith("linux")):
        told.append(f"no memory limit was set: {'this platform has none' if in_child else 'it ran in this process'}")
    return replace(observation, remarks=(*observation.remarks, *told))
