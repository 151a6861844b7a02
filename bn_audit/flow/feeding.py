"""Where the samples lie in the inputs of a graph, and how large the other axes are taken to be."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass

from bn_audit.flow.cells import LINE, SAME, Cells, per_sample, uniform
from bn_audit.flow.tokens import token
from bn_audit.flow.values import Lost, Value
from bn_audit.subject.graph import Dim, Graph, GraphValue, Node

BATCH_NAMES = ("bs", "n", "b")
"""Names of symbolic sizes that mean the number of samples, beside those that begin with ``batch``."""

OPEN_SIZES: tuple[tuple[int, int], ...] = ((224, 8), (256, 16), (64, 64), (512, 32), (96, 7))
"""What open sizes are taken to be, in the order tried: of axes of images (from the third of four on), of any others."""

MAX_DIM = 1 << 24


@dataclass(frozen=True, slots=True)
class Feed:
    """How the inputs of a graph are fed.

    Attributes:
        axes: Batch axis of each input; None where all samples share it.
        declared: The fixed batch size that the graph states; None where the batch axis is open.
        is_stated: The user says where the samples lie.
    """

    inputs: tuple[GraphValue, ...]
    axes: tuple[int | None, ...]
    symbol: str | None
    declared: int | None
    is_stated: bool = False

    @property
    def has_open_sizes(self) -> bool:
        """Whether any size other than the batch's is open."""
        return any(
            not isinstance(size, int) and axis != batch
            for value, batch in zip(self.inputs, self.axes, strict=True)
            for axis, size in enumerate(value.shape or ())
        )


def feed_of(graph: Graph, *, named_only: bool = True, batch_axis: int | None = None) -> Feed:
    """Return where the samples lie in each input: along its symbolic batch axis, else along the first axis.

    Args:
        named_only: Where one size is called a batch, inputs without it are shared by all samples.
        batch_axis: The axis of the samples where the user states it.
    """
    if batch_axis is not None:
        return _stated(graph, batch_axis)
    ranked = [value for value in graph.inputs if value.shape]
    open_first = [value for value in ranked if not isinstance(_first(value), int)]
    named = [size for value in ranked for size in value.shape or () if _means_batch(size)]
    if not open_first and not named:
        return _fixed(graph, ranked)
    symbol = (
        named[0] if named else next((_first(value) for value in open_first if isinstance(_first(value), str)), None)
    )
    strict = named_only and bool(named)
    axes = tuple(_open_axis(value, symbol, strict=strict) for value in graph.inputs)
    return Feed(graph.inputs, axes, symbol if isinstance(symbol, str) else None, None)


def _stated(graph: Graph, axis: int) -> Feed:
    sizes = [value.shape[axis] for value in graph.inputs if value.shape and len(value.shape) > axis]
    symbol = next((size for size in sizes if isinstance(size, str)), None)
    is_open = symbol is not None or None in sizes
    declared = None if is_open else next((size for size in sizes if isinstance(size, int)), None)
    wanted = (symbol, None) if is_open else (declared,)
    axes = tuple(
        axis if value.shape and len(value.shape) > axis and value.shape[axis] in wanted else None
        for value in graph.inputs
    )
    return Feed(graph.inputs, axes, symbol, declared, is_stated=True)


def _first(value: GraphValue) -> Dim:
    return value.shape[0] if value.shape else None


def _means_batch(size: Dim) -> bool:
    return isinstance(size, str) and (size.lower() in BATCH_NAMES or size.lower().startswith("batch"))


def _open_axis(value: GraphValue, symbol: Dim, *, strict: bool) -> int | None:
    if not value.shape:
        return None
    if isinstance(symbol, str) and symbol in value.shape:
        return value.shape.index(symbol)
    return None if strict or isinstance(value.shape[0], int) else 0


def _fixed(graph: Graph, ranked: list[GraphValue]) -> Feed:
    declared = _first(ranked[0]) if ranked else None
    axes = tuple(0 if value.shape and value.shape[0] == declared else None for value in graph.inputs)
    return Feed(graph.inputs, axes, None, declared if isinstance(declared, int) else None)


def along_the_open_axis(graph: Graph) -> Feed | None:
    """Return the feed with the samples along the only open axis, behind first axes of fixed size; None without one.

    A program for sequences with the time first is exported so: the number of steps is fixed, and the batch is open
    under a name that says nothing.
    """
    ranked = [value for value in graph.inputs if value.shape]
    open_axes = {
        (axis, size) for value in ranked for axis, size in enumerate(value.shape or ()) if isinstance(size, str)
    }
    if len(open_axes) != 1 or _fixed(graph, ranked).declared in (None, 1):
        return None
    ((axis, symbol),) = open_axes
    if not axis:
        return None
    axes = tuple(axis if symbol in (value.shape or ()) else None for value in graph.inputs)
    return Feed(graph.inputs, axes, symbol, None)


def fed(feed: Feed, batch_size: int, sizes: tuple[int, int], *, forgiving: bool) -> dict[str, Value]:
    """Return the values of the inputs for one run."""
    known: dict[str, int] = {} if feed.symbol is None else {feed.symbol: batch_size}
    shapes = [_shape(value, axis, batch_size, sizes, known) for value, axis in zip(feed.inputs, feed.axes, strict=True)]
    result: dict[str, Value] = {}
    for value, axis, shape in zip(feed.inputs, feed.axes, shapes, strict=True):
        if shape is None:
            result[value.name] = Lost(Node(name=value.name, op=""), f"the input {value.name!r} has no recorded shape")
        elif axis is None:
            result[value.name] = shared(shape, value.name)
        else:
            result[value.name] = per_sample(shape, axis, value.name, forgiving=forgiving)
    return result


def shared(shape: tuple[int, ...], name: str) -> Cells:
    """Return the cells of an input that is the same for all samples."""
    cells = uniform(shape, token("shared input", name))
    return Cells(shape, tuple(LINE if size > 1 else SAME for size in shape), cells.owners, cells.forms)


def _shape(
    value: GraphValue, batch_axis: int | None, batch_size: int, sizes: tuple[int, int], known: dict[str, int]
) -> tuple[int, ...] | None:
    if value.shape is None:
        return None
    result = []
    for axis, size in enumerate(value.shape):
        if axis == batch_axis:
            result.append(batch_size)
        elif isinstance(size, int):
            result.append(min(size, MAX_DIM))
        else:
            usual = sizes[0] if len(value.shape) == 4 and axis >= 2 else 3 if len(value.shape) == 4 else sizes[1]
            result.append(usual if size is None else _named_size(size, usual, known))
    return tuple(result)


def _named_size(name: str, usual: int, known: dict[str, int]) -> int:
    """Return the size of a symbol or of a sum or product of symbols, the same each time."""
    if name not in known:
        computed = _computed(name, known)
        known[name] = usual if computed is None else computed
    return known[name]


def _computed(expression: str, known: Mapping[str, int]) -> int | None:
    if not any(sign in expression for sign in "+-*/") or len(expression) > 200:
        return None
    try:
        tree = ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    value = _value_of(tree, known)
    return value if value is not None and 0 < value < MAX_DIM else None


def _value_of(tree: ast.expr, known: Mapping[str, int]) -> int | None:
    match tree:
        case ast.Constant(value=int() as number):
            return number
        case ast.Name(id=name):
            return known.get(name)
        case ast.BinOp(left=left, op=sign, right=right):
            a, b = _value_of(left, known), _value_of(right, known)
            if a is None or b is None:
                return None
            match sign:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
                case ast.FloorDiv() | ast.Div():
                    return a // b if b else None
    return None
