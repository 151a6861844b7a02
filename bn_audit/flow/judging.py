"""The verdict on one output: does a row depend on other rows, on its position, on the number of rows?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bn_audit.flow.blame import counterpart, differs, first_step, is_uneven
from bn_audit.flow.cells import DOUBT, LINE, Cells, explicit, may, several, some
from bn_audit.flow.constants import Constant
from bn_audit.flow.following import Run, Step
from bn_audit.flow.movement import reshaped
from bn_audit.flow.tokens import Bits
from bn_audit.flow.values import Lost, Several, Value, is_mixed, may_mix
from bn_audit.subject.graph import Node

QUANTISERS = frozenset(
    (
        *("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"),
        *("quantized_decomposed.choose_qparams.tensor", "quantized_decomposed.choose_qparams_symmetric.tensor"),
        *("aten._fused_moving_avg_obs_fq_helper.default", "aten._fused_moving_avg_obs_fq_helper_functional.default"),
    )
)
"""Operators that choose one range for all they are given."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was shown of one output."""

    verdict: str
    node: Node | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Rows:
    """An output, row by row.

    Attributes:
        foreign: Samples other than the row's own that certainly have an influence on it, shape (B,).
        possible: Samples other than its own that may have one.
        forms: Shape (B, cells of a row).
        shape: Sizes of a row.
        doubtful: Whether unequal forms may still be equal functions.
    """

    foreign: Bits
    possible: Bits
    forms: Bits
    shape: tuple[int, ...]
    doubtful: bool


def rows_of(value: Cells | Constant, batch_size: int, growing: tuple[bool, ...]) -> Rows | None:
    """Return the rows of an output along the axis where each row has its own sample, else along the first axis with
    as many rows as samples; None where there is no such axis.

    Args:
        growing: Which axes may hold the samples: those that are longer in a larger batch.
    """
    best: Rows | None = None
    for cells, axis in _layouts(value, batch_size, growing):
        rows = _rows_along(cells, axis, batch_size)
        if not rows.possible.any():
            return rows
        best = best or rows
    return best


def _growing(value: Cells | Constant, other: Value | None) -> tuple[bool, ...]:
    if isinstance(other, Cells | Constant) and len(other.shape) == len(value.shape):
        return tuple(a != b for a, b in zip(value.shape, other.shape, strict=True))
    return (True,) * len(value.shape)


def _layouts(value: Cells | Constant, batch_size: int, growing: tuple[bool, ...]) -> Iterator[tuple[Cells, int]]:
    """Yield the array with an axis of as many rows as samples, also split off an axis of a multiple of that."""
    axes = [axis for axis, size in enumerate(value.shape) if size == batch_size and growing[axis]]
    for axis in axes:
        cells = value if isinstance(value, Cells) else value.cells((axis,))
        yield explicit(cells, (axis,)), axis
    if axes or not isinstance(value, Cells):
        return
    for axis, size in enumerate(value.shape):
        if size and size % batch_size == 0 and growing[axis]:
            before, after = value.shape[:axis], value.shape[axis + 1 :]
            times = size // batch_size
            yield explicit(reshaped(value, (*before, batch_size, times, *after)), (axis,)), axis
            yield explicit(reshaped(value, (*before, times, batch_size, *after)), (axis + 1,)), axis + 1


def _rows_along(cells: Cells, axis: int, batch_size: int) -> Rows:
    owners = np.moveaxis(cells.owners, axis, 0).reshape(batch_size, -1)
    forms = np.moveaxis(cells.forms, axis, 0).reshape(batch_size, -1)
    own = (np.uint64(1) << np.arange(batch_size, dtype=np.uint64))[:, None]
    return Rows(
        foreign=np.bitwise_or.reduce(some(owners) & ~own, axis=1),
        possible=np.bitwise_or.reduce(may(owners) & ~own, axis=1),
        forms=forms,
        shape=(*cells.shape[:axis], *cells.shape[axis + 1 :]),
        doubtful=bool((owners & DOUBT).any()),
    )


def judge(name: str, first: Run, second: Run | None) -> Judgement:
    """Return the verdict on one output from the runs at two batch sizes; from one where only that size can run."""
    value = first.outputs[name]
    other = second.outputs[name] if second is not None else None
    for candidate in (value, other):
        if isinstance(candidate, Lost):
            return _lost(candidate, first)
        if isinstance(candidate, Several):
            return Judgement("undecided", None, "the output is a sequence, whose rows are not followed")
    if not isinstance(value, Cells | Constant):
        return Judgement("undecided", None, "the output is not computed")
    growing = _growing(value, other)
    rows = rows_of(value, first.batch_size, growing)
    if rows is None:
        return _without_rows(value, other, first)
    if rows.possible.any():
        return _mixing(value, rows, first)
    if (rows.forms != rows.forms[:1]).any():
        return _position(value, rows, first)
    if second is not None and isinstance(other, Cells | Constant):
        return _size(value, rows, other, first, second)
    return Judgement("independent")


def _lost(lost: Lost, run: Run) -> Judgement:
    where = f"{lost.node.op}: " if lost.node.op else ""
    if lost.conflict:
        return Judgement("undecided", lost.node, f"{where}cannot run at batch size {run.batch_size}: {lost.why}")
    return Judgement("undecided", lost.node, f"{where}{lost.why}")


def _without_rows(value: Cells | Constant, other: Value | None, run: Run) -> Judgement:
    if isinstance(value, Constant) or not may(value.owners).any():
        same = isinstance(other, Cells | Constant) and other.shape == value.shape and _form(other) == _form(value)
        if other is None or same:
            return Judgement("independent")
        changes = "a constant that changes with the number of rows"
        if isinstance(value, Constant) and isinstance(other, Constant):
            return Judgement("size", _last(run, value), f"the output has no batch axis: it is {changes}")
        return Judgement("undecided", _last(run, value), f"the output has no batch axis, and may be {changes}")
    if several(some(value.owners)).any():
        step = first_step(run, value, lambda _, v: is_mixed(v))
        return Judgement("mixes", step.node if step else None, f"{_what(step)}, and the output has no batch axis")
    if several(may(value.owners)).any():
        return _possible(value, run)
    owners = np.bitwise_or.reduce(may(value.owners), axis=None)
    if several(np.array([owners])).any():
        return Judgement("mixes", None, "the output has no batch axis: it holds values of several samples")
    return Judgement("position", None, "the output has no batch axis: it belongs to one of the samples")


def _form(value: Cells | Constant) -> tuple[object, ...]:
    if isinstance(value, Constant):
        return (int(value.form()),)
    return tuple(value.forms.reshape(-1).tolist())


def meeting(node: Node) -> str:
    """Return a clause that says how samples meet at a node."""
    if node.op in QUANTISERS:
        return f"{node.op} chooses one activation range for the whole batch"
    return f"{node.op} combines values of several samples"


def _what(step: Step | None) -> str:
    return meeting(step.node) if step else "values of several samples are combined"


def _mixing(value: Cells | Constant, rows: Rows, run: Run) -> Judgement:
    step = first_step(run, value, lambda _, v: is_mixed(v))
    if rows.foreign.any():
        if step is not None:
            return Judgement("mixes", step.node, _what(step))
        return Judgement("mixes", _last(run, value), "a row of the output holds values of other samples")
    return _possible(value, run)


def _possible(value: Value, run: Run) -> Judgement:
    step = first_step(run, value, lambda _, v: may_mix(v))
    node = step.node if step else None
    if node is None:
        return Judgement("undecided", None, "which part of an array of several samples is read is not known")
    if step is not None and any(_is_unread(operand) for operand in step.inputs):
        return Judgement("undecided", node, f"{node.op} meets a constant along the batch that is too large to read")
    return Judgement("undecided", node, f"whether {node.op} lets samples meet depends on the data")


def _last(run: Run, value: Value) -> Node | None:
    return next((step.node for step in run.steps if any(output is value for output in step.outputs)), None)


def _position(value: Cells | Constant, rows: Rows, run: Run) -> Judgement:
    step = first_step(run, value, lambda _, v: is_uneven(v, run.batch_size))
    node = step.node if step else _last(run, value)
    what = node.op if node else "the graph"
    if _is_doubtful(step, rows.doubtful):
        return Judgement("undecided", node, f"{what} meets a constant along the batch that is too large to compare")
    return Judgement("position", node, f"{what} does something else for each row")


def _is_doubtful(step: Step | None, otherwise: bool) -> bool:
    """Whether the step at which rows begin to differ meets a constant of which only the places are known."""
    if step is None:
        return otherwise
    return any(
        _is_unread(operand) or (isinstance(operand, Cells) and not may(operand.owners).any() and _is_open(operand))
        for operand in step.inputs
    )


def _is_unread(operand: Value) -> bool:
    return isinstance(operand, Constant) and operand.size > 1 and operand.values() is None


def _is_open(constant: Cells) -> bool:
    return LINE in constant.kinds or bool((constant.owners & DOUBT).any())


def _size(value: Cells | Constant, rows: Rows, other: Cells | Constant, first: Run, second: Run) -> Judgement:
    others = rows_of(other, second.batch_size, _growing(other, value))
    if others is None or others.possible.any() or (others.forms != others.forms[:1]).any():
        return Judgement("undecided", None, f"at batch size {second.batch_size} the graph does something else")
    if rows.shape != others.shape:
        return Judgement("size", _last(first, value), "the shape of a row changes with the number of rows")
    if rows.forms.shape[1] == others.forms.shape[1] and (rows.forms[0] == others.forms[0]).all():
        return Judgement("independent")
    sizes = (first.batch_size, second.batch_size)

    def shows(index: int, operand: Value) -> bool:
        twin = counterpart(first, second, index, operand)
        return twin is not None and differs(operand, twin, sizes)

    step = first_step(first, value, shows)
    node = step.node if step else _last(first, value)
    what = node.op if node else "the graph"
    if _is_doubtful(step, rows.doubtful or others.doubtful):
        return Judgement("undecided", node, f"{what} meets a constant along the batch that is too large to compare")
    return Judgement("size", node, f"{what} uses the number of rows")
