"""The inputs of one model: from the user, from the artifact, or found by trying."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bn_audit.errors import RunError, UnsupportedRunError
from bn_audit.running import Session
from bn_audit.sampling.batches import DrawnBatches
from bn_audit.sampling.choosing import carried_rows, is_free, is_setting, sample_shape, value_sources
from bn_audit.sampling.dtypes import is_float
from bn_audit.sampling.files import read_samples
from bn_audit.sampling.matching import Samples, as_specs, matched
from bn_audit.sampling.sizes import Decided, decided, settled
from bn_audit.sampling.specification import MAX_ELEMENTS, AskedInput, parse_inputs
from bn_audit.subject.run import Array, InputSpec, Job

TRY_BATCH = 2
"""Samples in the batches that are tried: the least that shows an axis of samples."""

MAX_TRIES = 60
"""Forward passes spent on finding inputs."""

MAX_CANDIDATES = 20

SHOWN_ERRORS = 3
SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """Inputs that may be right, as `DrawnBatches` for any batch size."""

    plan: DrawnBatches

    def signature(self) -> tuple[object, ...]:
        sources = ((source.kind, source.lowest, source.highest, source.dtype) for source in self.plan.sources)
        return tuple((spec.name, spec.shape, spec.batch_axis) for spec in self.plan.specs), tuple(sources)


def plan_inputs(session: Session, job: Job, samples: Mapping[str, Array] | None = None) -> DrawnBatches:
    """Return how to draw batches for a model, found by running it on small ones.

    Args:
        samples: Real samples by input, in place of ``job.inputs_file``; the name ``""`` stands for the only input.

    Raises:
        RunError: the model runs on none of the inputs that were tried, or the given ones do not fit it.
        UsageError: ``job.inputs`` is not of the form ``NAME=DTYPE:SHAPE``.
        ArtifactError: ``job.inputs_file`` cannot be read.
    """
    asked = parse_inputs(job.inputs)
    given = _given(job, samples)
    if asked and given is not None:
        described = ", ".join(repr(item.name) for item in asked)
        raise RunError(f"--input {described}: the samples of {given.where} already say shape and type: drop either")
    refusals: list[str] = []
    attempts = _attempts(session, job, asked, given, refusals)  # found one by one: a backend runs the model for each
    return _first_that_runs(session, job, attempts, refusals, is_given=bool(asked) or given is not None)


def _given(job: Job, samples: Mapping[str, Array] | None) -> Samples | None:
    if samples is not None:
        return Samples(arrays=dict(samples), where="the given arrays")
    if job.inputs_file is not None:
        return Samples(arrays=read_samples(job.inputs_file), where=Path(job.inputs_file).name)
    return None


def _nothing_known() -> str:
    return (
        "nothing tells the shape of the inputs: give one sample's with --input NAME=DTYPE:SHAPE, such as "
        "x=float32:3x224x224, or real samples with --inputs FILE"
    )


def _attempts(
    session: Session, job: Job, asked: Sequence[AskedInput], given: Samples | None, refusals: list[str]
) -> Iterator[_Attempt]:
    """Yield what to try, each once; what the user gave and no candidate takes is tried as it stands, last."""
    seen: set[tuple[object, ...]] = set()
    for specs in _described(session, job, asked, given, refusals):
        try:
            real = matched(given, specs, job.batch_axis) if given is not None else ()
        except RunError as error:
            refusals.append(str(error))
            continue
        rows = {item.spec.name: item.rows for item in real if item.rows is not None}
        told = tuple(item.spec for item in real) or specs
        for attempt in _concrete(told, rows, job, session.fixed_batch):
            if attempt.signature() not in seen:
                seen.add(attempt.signature())
                yield attempt


def _described(
    session: Session, job: Job, asked: Sequence[AskedInput], given: Samples | None, refusals: list[str]
) -> Iterator[tuple[InputSpec, ...]]:
    """Yield the inputs as the model or the user describes them, sizes open."""
    is_answered = False
    for specs in itertools.islice(session.input_candidates(), MAX_CANDIDATES):
        placed = tuple(_placed(spec, job) for spec in specs)
        try:
            yield settled(placed, _overridden(placed, asked, job))
            is_answered = True
        except RunError as error:
            refusals.append(str(error))
    if asked and not is_answered:
        yield tuple(_as_asked(item, item.name or "input", job.batch_axis) for item in asked)
    if given is not None:
        yield from as_specs(given, job.batch_axis, session.dtype)


def _placed(spec: InputSpec, job: Job) -> InputSpec:
    """Return the input with the batch axis and the type that the user asks for; a number has no batch axis."""
    axis = spec.batch_axis
    if axis is not None and job.batch_axis is not None:
        axis = min(job.batch_axis, len(spec.shape) - 1)
    dtype = job.dtype if job.dtype is not None and is_float(spec.dtype) else spec.dtype
    return replace(spec, dtype=dtype, batch_axis=axis if spec.shape else None)


def _overridden(specs: tuple[InputSpec, ...], asked: Sequence[AskedInput], job: Job) -> tuple[InputSpec, ...]:
    """Return the inputs as the user describes them, where they do.

    Raises:
        RunError: a name is none of the model's inputs.
    """
    if not asked:
        return specs
    if len(asked) == 1 and len(specs) == 1:
        return (_merged(specs[0], asked[0], job.batch_axis),)
    by_name = {item.name: item for item in asked}
    unknown = [name for name in by_name if name not in {spec.name for spec in specs}]
    if unknown:
        names = ", ".join(repr(spec.name) for spec in specs)
        raise RunError(f"--input: the model has no input {unknown[0]!r}; its inputs are {names}: use these names")
    return tuple(_merged(spec, by_name[spec.name], job.batch_axis) if spec.name in by_name else spec for spec in specs)


def _merged(spec: InputSpec, asked: AskedInput, batch_axis: int | None) -> InputSpec:
    """Return the user's description with what only the model knows: its name, its range, what it carries."""
    own = _as_asked(asked, spec.name, spec.batch_axis if batch_axis is None else batch_axis)
    is_carried = spec.sample is not None and spec.dtype == asked.dtype
    return replace(own, highest=spec.highest, sample=spec.sample if is_carried else None)


def _as_asked(asked: AskedInput, name: str, batch_axis: int | None) -> InputSpec:
    axis = min(batch_axis or 0, len(asked.shape))
    shape: list[int | str | None] = [*asked.shape]
    shape.insert(axis, None)
    return InputSpec(name=name, dtype=asked.dtype, shape=tuple(shape), batch_axis=axis, origin="--input")


def _concrete(
    specs: tuple[InputSpec, ...], rows: Mapping[str, Array], job: Job, fixed_batch: int | None
) -> Iterator[_Attempt]:
    for choice in decided(_with_carried_sizes(specs)):
        if any(math.prod(sample_shape(spec)) > MAX_ELEMENTS for spec in choice.specs):
            continue
        for sources, guess in value_sources(choice.specs, rows, on_device=job.device != "cpu"):
            yield _Attempt(
                plan=DrawnBatches(
                    specs=tuple(_told(spec, choice, guess, real=spec.name in rows) for spec in choice.specs),
                    sources=sources,
                    seed=job.seed,
                    fixed_batch=fixed_batch,
                    free_axes=choice.free_axes,
                )
            )


def _with_carried_sizes(specs: tuple[InputSpec, ...]) -> tuple[InputSpec, ...]:
    """Return the inputs with open sizes as those of the samples that the artifact carries."""
    return settled(specs, [_as_carried(spec) for spec in specs])


def _as_carried(spec: InputSpec) -> InputSpec:
    if spec.sample is None or spec.sample.ndim != len(spec.shape):
        return spec
    carried = spec.sample.shape
    kept = (axis == spec.batch_axis or isinstance(size, int) for axis, size in enumerate(spec.shape))
    shape = (size if keep else found for keep, size, found in zip(kept, spec.shape, carried, strict=True))
    return replace(spec, shape=tuple(shape))


def _told(spec: InputSpec, choice: Decided, guess: str, *, real: bool) -> InputSpec:
    """Return the input with everything about its origin in one clause."""
    parts = [spec.origin] if spec.origin else []
    if choice.chosen and not real:
        parts.append(f"chosen: {', '.join(choice.chosen)}")
    if is_setting(spec):
        parts.append("one number for all samples, chosen freely")
    elif not real:
        near = carried_rows(spec) is not None and is_float(spec.dtype)
        parts.append("values drawn near the sample it carries" if near else "values drawn")
        if guess and is_free(spec):
            parts.append(guess)
    return replace(spec, origin="; ".join(parts))


def _first_that_runs(
    session: Session, job: Job, attempts: Iterator[_Attempt], refusals: Sequence[str], *, is_given: bool
) -> DrawnBatches:
    """Return the first plan on which the model runs: at two samples, else at the sizes asked for, else at one."""
    fixed = session.fixed_batch
    sizes = (fixed,) if fixed is not None else tuple(dict.fromkeys((TRY_BATCH, max(job.batch_sizes), 1)))
    errors: list[tuple[str, str]] = []
    tries = 0
    known: list[_Attempt] = []
    for size in sizes:
        for attempt in _remembered(known, attempts):
            if tries >= MAX_TRIES:
                break
            tries += 1
            try:
                session.run(attempt.plan.draw(size, 0), seed=job.seed)
            except UnsupportedRunError:
                raise
            except RunError as error:
                errors.append((_described_shapes(attempt.plan, size), str(error)))
                continue
            return replace(attempt.plan, tries=tries)
    if not known:
        raise RunError(refusals[0] if refusals else _nothing_known())
    raise RunError(_summary(errors, refusals, is_given=is_given))


def _remembered(known: list[_Attempt], rest: Iterator[_Attempt]) -> Iterator[_Attempt]:
    """Yield what is known, then the rest, which joins it."""
    yield from tuple(known)
    for attempt in rest:
        known.append(attempt)
        yield attempt


def _described_shapes(plan: DrawnBatches, size: int) -> str:
    """Return such as ``x float32 2x3x64x64``."""
    return ", ".join(
        f"{spec.name} {spec.dtype} " + ("x".join(str(length or size) for length in spec.shape) or "number")
        for spec in plan.specs
    )


def _summary(errors: Sequence[tuple[str, str]], refusals: Sequence[str], *, is_given: bool) -> str:
    """Return one message for all tries: each different error once, with the first inputs that gave it."""
    first: dict[str, str] = {}
    for shapes, error in errors:
        first.setdefault(" ".join(error.split())[:SHOWN_CHARACTERS], shapes)
    listed = "; ".join(f"with {shapes}: {error}" for error, shapes in list(first.items())[:SHOWN_ERRORS])
    more = f"; {len(first) - SHOWN_ERRORS} more kinds of error" if len(first) > SHOWN_ERRORS else ""
    if is_given and refusals:
        return f"{refusals[0]}; given as it stands the model fails {listed}{more}"
    refused = f" ({refusals[0]})" if refusals else ""
    if is_given:
        return f"the model does not run on the inputs given: {listed}{more}: correct them"
    count = f"none of {len(errors)} tries" if len(errors) > 1 else "it does not"
    return (
        f"no inputs found on which the model runs, {count} succeeded: {listed}{more}{refused}: give one sample's shape "
        "with --input NAME=DTYPE:SHAPE, or real samples with --inputs FILE"
    )
