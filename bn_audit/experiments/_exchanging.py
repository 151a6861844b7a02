"""Exchanging the companions of one row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bn_audit.experiments._comparing import largest_effect, row_of
from bn_audit.experiments._drawing import draw
from bn_audit.experiments._results import Swap, Swaps, axes_from, reference_of
from bn_audit.running import Bench, Figures
from bn_audit.subject.run import Batch

LARGE = 1e-3
"""An effect beyond which further draws add nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What takes the companions' place."""

    name: str
    number: int
    scale: float = 1.0


def ends_and_middle(size: int) -> tuple[int, ...]:
    """Return the first, last and middle row of a batch, each once."""
    return tuple(dict.fromkeys((0, size - 1, size // 2)))


def exchanged(bench: Bench, figures: Mapping[str, Figures], draws: Iterable[Draw], indices: Sequence[int]) -> Swaps:
    """Return what exchanging the companions of these rows for these draws moves; it ends after a large effect."""
    size = reference_of(figures).batch_size
    drawn = ((one.name, draw(bench, size, one.number, one.scale)) for one in draws)
    pairs = ([_swap(bench, figures, name, batch, batch, index) for index in indices] for name, batch in drawn)
    return _gathered(pairs)


def exchanged_for_itself(bench: Bench, figures: Mapping[str, Figures], indices: Sequence[int]) -> Swaps:
    """Return what putting copies of a row in its companions' place moves, for each of these rows."""
    reference = reference_of(figures)
    other = draw(bench, reference.batch_size, 1)
    copies = ((index, bench.plan.rows(reference.batch, [index] * reference.batch_size)) for index in indices)
    return _gathered([_swap(bench, figures, "copies of itself", batch, other, index)] for index, batch in copies)


def _gathered(rounds: Iterable[Sequence[Swap]]) -> Swaps:
    tried, worst, spare = 0, None, None
    for swaps in rounds:
        for swap in swaps:
            tried, spare = tried + 1, spare or swap
            if swap.effect > 0 and (worst is None or swap.effect > worst.effect):
                worst = swap
        if worst is not None and worst.effect > LARGE:
            break
    return Swaps(tried=tried, worst=worst, spare=spare)


def _swap(bench: Bench, figures: Mapping[str, Figures], name: str, companions: Batch, probe: Batch, index: int) -> Swap:
    reference = reference_of(figures)
    axes = axes_from(figures)
    batch = bench.plan.with_row(companions, index, reference.batch)
    bench.say(f"row {index} among {name}", 1)
    outputs = bench.session.run(batch, seed=bench.job.seed).outputs[0]
    kept, now = row_of(reference.outputs, axes, index), row_of(outputs, axes, index)
    return Swap(
        drawn=name,
        index=index,
        batch=batch,
        probe=bench.plan.with_row(reference.batch, index, probe),
        outputs=outputs,
        effect=largest_effect(kept, now, axes),
    )
