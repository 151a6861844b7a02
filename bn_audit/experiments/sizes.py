"""The first rows of the reference batch at every other batch size.

Differences are figures only: other sizes run other kernels, so a difference may be floating point. Where randomness is
live, rows draw other numbers at another size and are not compared; the sizes are run all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bn_audit.errors import RunError
from bn_audit.experiments._comparing import axes_of
from bn_audit.experiments._results import SizeRun, Sizes, figures_of, reference_of
from bn_audit.running import Bench, Experiment, Figures


def measure(bench: Bench, figures: Mapping[str, Figures]) -> Figures:
    """Return the run of every other size, and the axis of the samples in each output."""
    reference = reference_of(figures)
    runs = tuple(_run(bench, figures, size) for size in _others(bench, reference.batch_size))
    told = [run for run in runs if run.outputs is not None]
    widest = max(told, key=lambda run: run.batch_size, default=None)
    other = None if widest is None or widest.outputs is None else (widest.outputs, widest.batch_size)
    axes = axes_of(reference.outputs, reference.batch_size, other, _preferred(bench))
    return figures_of(Sizes(runs=runs, axes=axes))


def _others(bench: Bench, reference: int) -> Iterator[int]:
    if bench.session.fixed_batch is None and bench.plan.fixed_batch is None:
        yield from (size for size in sorted(set(bench.job.batch_sizes), reverse=True) if size != reference)


def _run(bench: Bench, figures: Mapping[str, Figures], size: int) -> SizeRun:
    reference = reference_of(figures)
    if size in reference.failures:
        return SizeRun(batch_size=size, error=reference.failures[size])
    batch = bench.plan.rows(reference.batch, range(size))
    try:
        bench.say(f"batch size {size}", 1)
        run = bench.session.run(batch, seed=bench.job.seed)
    except RunError as error:
        return SizeRun(batch_size=size, error=str(error))
    return SizeRun(batch_size=size, outputs=run.outputs[0], seconds=run.seconds[0] if run.seconds else None)


def _preferred(bench: Bench) -> tuple[int, ...]:
    asked = (bench.job.batch_axis,) if bench.job.batch_axis is not None else ()
    inputs = tuple(spec.batch_axis for spec in bench.plan.specs if spec.batch_axis is not None)
    return (*asked, *inputs, 0)


EXPERIMENT = Experiment(name="sizes", summary="the same rows at other batch sizes", order=20, measure=measure)
