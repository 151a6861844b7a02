"""Which of the differences seen are real, and which are floating point?

Companions: where the same operators ran on the same shapes, the same kernels ran, and any difference is real, however
small. Otherwise, as for positions and sizes, double precision decides; where parts of the model work in less even then,
single and double differences must point the same way; without double precision, ten times the model's own response to a
change of one unit in the last place.

Where companions matter, positions and sizes differ on that account and are not decided.

In the quick tier differences between sizes up to `UNEXAMINED` are taken for floating point: that of nine in ten clean
networks is smaller, and deciding costs more passes than the tier has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

from bn_audit.errors import RunError
from bn_audit.experiments._comparing import first_repeated, largest_effect, row_of
from bn_audit.experiments._results import (
    Confirmation,
    Position,
    Repeat,
    SizeRun,
    Sizes,
    Swap,
    Swaps,
    figures_of,
    found,
    is_random,
    reference_of,
)
from bn_audit.experiments._rounding import RESPONSES, Precision
from bn_audit.experiments._sizing import rows_shared, shared_rows
from bn_audit.running import Bench, Experiment, Figures
from bn_audit.subject.run import Outputs

UNEXAMINED = 1e-5


def measure(bench: Bench, figures: Mapping[str, Figures]) -> Figures:
    """Return what is real."""
    precision = Precision(bench=bench, figures=figures)
    explained: list[float] = []
    content, how = _companions(precision, explained)
    position = None if content else _position(precision, explained)
    sizes = {} if content or is_random(figures) else _sizes(precision, explained)
    rounding = max(explained, default=None)
    return figures_of(Confirmation(content=content, position=position, sizes=sizes, rounding=rounding, how=how))


def _companions(precision: Precision, explained: list[float]) -> tuple[bool | None, str]:
    swaps = found(precision.figures, Swaps)
    if swaps is None:
        return None, ""
    swap = swaps.worst
    if swap is None:
        return False, f"{swaps.tried} exchanges of the companions moved no bit"
    repeat = found(precision.figures, Repeat)
    if repeat is not None and repeat.same_seed:
        floor = max(RESPONSES * repeat.same_seed, precision.floor() or 0.0)
        return (True if swap.effect > floor else None), "beyond what differs between equal runs"
    if math.isinf(swap.effect):
        return True, "the shape of the answer, or whether it is finite"
    if _same_operators(precision, swap):
        return True, "the same operators ran on the same shapes"
    real = precision.is_real(
        _kept(precision, reference_of(precision.figures).outputs, swap.outputs, swap.index),
        lambda: _kept_exactly(precision, swap),
    )
    if real is False:
        explained.append(swap.effect)
    return real, "the model's own response to rounding" if precision.refused else "double precision"


def _same_operators(precision: Precision, swap: Swap) -> bool:
    bench = precision.bench
    bench.say("operators that run", 2)
    try:
        base = bench.session.run(reference_of(precision.figures).batch, seed=bench.job.seed, traced=True)
        swapped = bench.session.run(swap.batch, seed=bench.job.seed, traced=True)
    except RunError:
        return False
    return base.trace is not None and base.trace == swapped.trace


def _kept(precision: Precision, base: Outputs, swapped: Outputs, index: int) -> tuple[Outputs, Outputs]:
    return row_of(base, precision.axes, index), row_of(swapped, precision.axes, index)


def _kept_exactly(precision: Precision, swap: Swap) -> tuple[Outputs, Outputs] | None:
    base = precision.outputs("the reference batch", reference_of(precision.figures).batch)
    swapped = None if base is None else precision.outputs("other companions", swap.batch)
    return None if base is None or swapped is None else _kept(precision, base, swapped, swap.index)


def _position(precision: Precision, explained: list[float]) -> bool | None:
    position = found(precision.figures, Position)
    if position is None:
        return None
    if not position.effect:
        return False

    def exactly() -> tuple[Outputs, Outputs] | None:
        outputs = precision.outputs("one sample in every row", position.batch)
        if outputs is None:
            return None
        repeated = first_repeated(outputs, precision.axes)
        return repeated, {name: outputs[name] for name in repeated}

    real = precision.is_real((first_repeated(position.outputs, precision.axes), position.outputs), exactly)
    if real is False:
        explained.append(position.effect)
    return real


def _sizes(precision: Precision, explained: list[float]) -> dict[int, bool | None]:
    sizes = found(precision.figures, Sizes)
    decided: dict[int, bool | None] = {}
    for run in sizes.runs if sizes is not None else ():
        pair = shared_rows(precision.figures, run)
        effect = 0.0 if pair is None else largest_effect(*pair, precision.axes)
        if pair is None or not effect:
            continue
        is_small = precision.bench.job.tier == "quick" and effect <= UNEXAMINED
        exactly = partial(_exactly, precision, run)
        decided[run.batch_size] = False if is_small else precision.is_real(pair, exactly)
        if decided[run.batch_size] is False:
            explained.append(effect)
    return decided


def _exactly(precision: Precision, run: SizeRun) -> tuple[Outputs, Outputs] | None:
    reference = reference_of(precision.figures)
    base = precision.outputs("the reference batch", reference.batch)
    if base is None:
        return None
    rows = precision.bench.plan.rows(reference.batch, range(run.batch_size))
    outputs = precision.outputs(f"batch size {run.batch_size}", rows)
    return None if outputs is None else rows_shared(precision.figures, base, outputs, run.batch_size)


EXPERIMENT = Experiment(
    name="confirmation", summary="which differences are real and which are floating point", order=60, measure=measure
)
