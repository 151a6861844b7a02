"""The tables of a report: one row for each batch size, output and input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bn_audit.experiments._comparing import differences, first_rows, row
from bn_audit.experiments._results import (
    Reference,
    SizeRun,
    Sizes,
    Swaps,
    axes_from,
    found,
    is_random,
    reference_of,
)
from bn_audit.running import Figures, Plan
from bn_audit.subject.observation import InputUsed, OutputResult, SizeResult
from bn_audit.subject.run import Array, Job


def size_rows(job: Job, figures: Mapping[str, Figures]) -> tuple[SizeResult, ...]:
    """Return one row for each size that was asked for, and one for the reference, in ascending order."""
    reference, sizes = found(figures, Reference), found(figures, Sizes)
    if reference is None:
        return ()
    count = reference.batch_size
    seconds = reference.seconds
    own = SizeResult(
        batch_size=count,
        max_abs=0.0,
        max_rel=0.0,
        top1_changes=_top1(tuple(_with_itself(figures))),
        seconds=seconds,
        samples=(0.0,) * count,
    )
    rows = [own] if count in job.batch_sizes or not sizes or not sizes.runs else []
    if is_random(figures):
        rows = [SizeResult(batch_size=count, seconds=seconds) for _ in rows]
    rows += [_size_row(figures, run) for run in sizes.runs] if sizes else []
    return tuple(sorted(rows, key=lambda entry: entry.batch_size))


def _with_itself(figures: Mapping[str, Figures]) -> Iterator[tuple[Array, Array, int]]:
    for name, axis in axes_from(figures).items():
        if axis is not None:
            outputs = reference_of(figures).outputs[name]
            yield outputs, outputs, axis


def _size_row(figures: Mapping[str, Figures], run: SizeRun) -> SizeResult:
    if run.outputs is None:
        return SizeResult(batch_size=run.batch_size, status="failed", error=run.error)
    plain = SizeResult(batch_size=run.batch_size, seconds=run.seconds, error=_lost(figures, run))
    if is_random(figures):
        return plain
    pairs = tuple(_pairs(figures, run))
    if not pairs:
        return plain
    found_differences = [differences(before, now, axis) for before, now, axis in pairs]
    samples = np.max([relative for _absolute, relative in found_differences], axis=0)
    return SizeResult(
        batch_size=run.batch_size,
        max_abs=max(float(absolute.max(initial=0.0)) for absolute, _relative in found_differences),
        max_rel=float(samples.max(initial=0.0)),
        top1_changes=_top1(pairs),
        seconds=run.seconds,
        error=plain.error,
        samples=tuple(float(value) for value in samples),
    )


def _pairs(figures: Mapping[str, Figures], run: SizeRun) -> Iterator[tuple[Array, Array, int]]:
    """Yield (rows of the reference, rows of this size, axis) of every output that both have."""
    reference = reference_of(figures)
    for name, axis in axes_from(figures).items():
        if axis is None or run.outputs is None or name not in run.outputs:
            continue
        before = first_rows(reference.outputs[name], run.batch_size, axis)
        if run.outputs[name].shape == before.shape:
            yield before, run.outputs[name], axis


def _lost(figures: Mapping[str, Figures], run: SizeRun) -> str:
    """Return which output has no axis of this size, though it has at the reference; ``""`` for none."""
    for name, axis in axes_from(figures).items():
        if axis is None or run.outputs is None:
            continue
        now = run.outputs.get(name)
        if now is None or now.ndim <= axis or now.shape[axis] != run.batch_size:
            shape = "missing" if now is None else f"of shape {list(now.shape)}"
            return f"output {name} is {shape}: no axis of {run.batch_size}"
    return ""


def _top1(pairs: Sequence[tuple[Array, Array, int]]) -> int | None:
    """Return how many samples have another best class; None where no output is class scores."""
    scores = [(before, now) for before, now, axis in pairs if _are_scores(before, axis)]
    return max((_changes(*pair) for pair in scores), default=None)


def _are_scores(output: Array, axis: int | None) -> bool:
    return output.ndim == 2 and axis == 0 and output.shape[1] > 1 and output.dtype.kind not in "biuSUO"


def _changes(before: Array, now: Array) -> int:
    best = (array.astype(np.float64).argmax(axis=1) for array in (before, now))
    return int(np.not_equal(*best).sum())


def output_rows(figures: Mapping[str, Figures]) -> tuple[OutputResult, ...]:
    """Return one row for each output, over sizes and companions."""
    reference = found(figures, Reference)
    if reference is None:
        return ()
    axes = axes_from(figures)
    return tuple(_output_row(figures, name, array, axes.get(name)) for name, array in reference.outputs.items())


def _output_row(figures: Mapping[str, Figures], name: str, array: Array, axis: int | None) -> OutputResult:
    absolute, relative, changes = [0.0], [0.0], [0]
    for before, now in _compared(figures, name, array, axis):
        far, share = differences(before, now, axis)
        absolute.append(float(far.max(initial=0.0)))
        relative.append(float(share.max(initial=0.0)))
        if _are_scores(before, axis) and before.shape == now.shape:
            changes.append(_changes(before, now))
    is_told = axis is not None and len(absolute) > 1
    return OutputResult(
        name=name,
        dtype=str(array.dtype),
        shape=tuple(array.shape),
        batch_axis=axis,
        max_abs=max(absolute) if is_told else None,
        max_rel=max(relative) if is_told else None,
        top1_changes=max(changes) if is_told and _are_scores(array, axis) else None,
    )


def _compared(
    figures: Mapping[str, Figures], name: str, array: Array, axis: int | None
) -> Iterator[tuple[Array, Array]]:
    swaps, sizes = found(figures, Swaps), found(figures, Sizes)
    if axis is None:
        return
    swap = swaps and (swaps.worst or swaps.spare)
    if swap and name in swap.outputs and swap.outputs[name].ndim > axis:
        yield row(array, swap.index, axis), row(swap.outputs[name], swap.index, axis)
    for run in sizes.runs if sizes and not is_random(figures) else ():
        if run.outputs is not None and name in run.outputs:
            before = first_rows(array, run.batch_size, axis)
            if run.outputs[name].shape == before.shape:
                yield before, run.outputs[name]


def input_rows(plan: Plan) -> tuple[InputUsed, ...]:
    """Return one row for each input, with the shape of one sample."""
    return tuple(
        InputUsed(
            name=spec.name,
            dtype=spec.dtype,
            shape=tuple(
                size for axis, size in enumerate(spec.shape) if axis != spec.batch_axis if isinstance(size, int)
            ),
            batch_axis=spec.batch_axis,
            origin=spec.origin,
        )
        for spec in plan.specs
    )
