"""The rows that two batch sizes share."""

from __future__ import annotations

from collections.abc import Mapping

from bn_audit.experiments._comparing import largest_effect, rows_of
from bn_audit.experiments._results import SizeRun, Sizes, axes_from, found, is_random, reference_of
from bn_audit.running import Figures
from bn_audit.subject.run import Outputs


def shared_rows(figures: Mapping[str, Figures], run: SizeRun) -> tuple[Outputs, Outputs] | None:
    """Return the rows of the reference and of another size that belong to the same samples; None for none."""
    if run.outputs is None:
        return None
    return rows_shared(figures, reference_of(figures).outputs, run.outputs, run.batch_size)


def rows_shared(
    figures: Mapping[str, Figures], reference: Outputs, outputs: Outputs, size: int
) -> tuple[Outputs, Outputs] | None:
    """Return the same for any two runs, the first of the reference batch."""
    whole = rows_of(reference, axes_from(figures), size)
    told = {
        name: outputs[name] for name, array in whole.items() if name in outputs and outputs[name].shape == array.shape
    }
    return ({name: whole[name] for name in told}, told) if told else None


def size_effect(figures: Mapping[str, Figures]) -> float:
    """Return the largest difference between sizes, floating point included; 0.0 where rows cannot be compared."""
    sizes = found(figures, Sizes)
    if sizes is None or is_random(figures):
        return 0.0
    pairs = [pair for run in sizes.runs if (pair := shared_rows(figures, run)) is not None]
    return max((largest_effect(*pair, sizes.axes) for pair in pairs), default=0.0)
