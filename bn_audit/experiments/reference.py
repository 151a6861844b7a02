"""The reference batch, run twice on one fresh copy: what every other run is compared with.

Where the largest size fails, the next smaller one serves; the failures are part of the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bn_audit.errors import RunError
from bn_audit.experiments._drawing import draw
from bn_audit.experiments._results import Reference, figures_of
from bn_audit.running import Bench, Experiment, Figures


def measure(bench: Bench, _figures: Mapping[str, Figures]) -> Figures:
    """Return the reference run.

    Raises:
        RunError: the model runs at no size that was asked for.
    """
    failures: dict[int, str] = {}
    first: RunError | None = None
    for batch_size in _sizes(bench):
        batch = draw(bench, batch_size, 0)
        try:
            bench.say(f"batch size {batch_size}", 2)
            run = bench.session.run(batch, batch, seed=bench.job.seed)
        except RunError as error:
            failures[batch_size] = str(error)
            first = first or error
            continue
        outputs, second = run.outputs
        return figures_of(
            Reference(
                batch_size=batch_size,
                batch=batch,
                outputs=outputs,
                second=second,
                changed=run.changed,
                failures=failures,
                seconds=run.seconds[0] if run.seconds else None,
            )
        )
    raise first or RunError(f"{bench.job.source}: no batch size to run it at: name one with --batch-sizes")


def _sizes(bench: Bench) -> Iterator[int]:
    """Yield the sizes to try: the one chosen, then those asked for, the largest first."""
    yield bench.batch_size
    if bench.session.fixed_batch is None and bench.plan.fixed_batch is None:
        yield from (size for size in sorted(set(bench.job.batch_sizes), reverse=True) if size != bench.batch_size)


EXPERIMENT = Experiment(
    name="reference", summary="the same batch twice, which every other run is compared with", order=0, measure=measure
)
