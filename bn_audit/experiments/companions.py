"""One row kept, all others replaced, at the same batch size: on the processor the row's bits must not move.

The probe stands first, last and in the middle, since a row may depend on its predecessors or on its rank only. The new
companions are two fresh draws, one ten times as large and one a tenth: a maximum, a rank or a capacity changes hands
only when scales do. Token inputs have no scale.

Source: the measured protocol; with one draw at both ends it finds all of 336 batch norms left in training mode.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bn_audit.experiments._comparing import largest_effect, row_of
from bn_audit.experiments._drawing import draw
from bn_audit.experiments._results import Sizes, Swap, Swaps, axes_from, figures_of, found, reference_of
from bn_audit.running import Bench, Experiment, Figures
from bn_audit.subject.run import Batch

LARGE = 1e-3
"""An effect beyond which further draws add nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What takes the companions' place."""

    name: str
    number: int
    scale: float = 1.0


FRESH = Draw(name="a fresh draw", number=1)
DRAWS = (
    FRESH,
    Draw(name="another fresh draw", number=2),
    Draw(name="a draw ten times as large", number=3, scale=10.0),
    Draw(name="a draw a tenth as large", number=4, scale=0.1),
)


def measure(bench: Bench, figures: Mapping[str, Figures]) -> Figures:
    """Return how far new companions move the row that was kept."""
    size = reference_of(figures).batch_size
    indices = tuple(dict.fromkeys((0, size - 1) if bench.job.tier == "quick" else (0, size - 1, size // 2)))
    tried, worst, spare = 0, None, None
    for drawn in _draws(bench):
        batch = draw(bench, size, drawn.number, drawn.scale)
        for index in indices:
            swap = _swap(bench, figures, drawn.name, batch, index)
            tried, spare = tried + 1, spare or swap
            if swap.effect > 0 and (worst is None or swap.effect > worst.effect):
                worst = swap
        if worst is not None and worst.effect > LARGE:
            break
    return figures_of(Swaps(tried=tried, worst=worst, spare=spare))


def _draws(bench: Bench) -> Iterator[Draw]:
    if bench.job.tier == "quick":
        yield FRESH
    else:
        yield from (drawn for drawn in DRAWS if bench.plan.has_floats or drawn.scale == 1.0)


def _swap(bench: Bench, figures: Mapping[str, Figures], name: str, drawn: Batch, index: int) -> Swap:
    reference = reference_of(figures)
    axes = axes_from(figures)
    batch = bench.plan.with_row(drawn, index, reference.batch)
    bench.say(f"row {index} among {name}", 1)
    outputs = bench.session.run(batch, seed=bench.job.seed).outputs[0]
    kept, now = row_of(reference.outputs, axes, index), row_of(outputs, axes, index)
    return Swap(
        drawn=name,
        index=index,
        batch=batch,
        probe=bench.plan.with_row(reference.batch, index, drawn),
        outputs=outputs,
        effect=largest_effect(kept, now, axes),
    )


def _has_companions(figures: Mapping[str, Figures]) -> bool:
    sizes = found(figures, Sizes)
    return reference_of(figures).batch_size > 1 and sizes is not None and sizes.is_attributable


EXPERIMENT = Experiment(
    name="companions",
    summary="one row kept, all others replaced",
    order=30,
    measure=measure,
    concerns=_has_companions,
)
