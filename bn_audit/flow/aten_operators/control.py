"""Higher-order operators: branches, loops and calls of graphs inside the graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bn_audit.flow.algebra import as_cells, pointwise
from bn_audit.flow.aten_operators.arguments import Arguments, Entry
from bn_audit.flow.call import Result
from bn_audit.flow.cells import Cells, UndecidableError, less_certain
from bn_audit.flow.choice import chosen
from bn_audit.flow.constants import Constant
from bn_audit.flow.joining import concatenated
from bn_audit.flow.movement import broadcast, reshaped, sliced, squeezed
from bn_audit.flow.reduction import reduced
from bn_audit.flow.values import Value, operand
from bn_audit.subject.graph import Graph

MAX_STEPS = 4096
"""Rounds of a loop that are followed one by one."""


def positional(arguments: Arguments) -> list[object]:
    """Return the arguments of a higher-order operator in order: graphs, values, lists of values, settings."""
    raw = arguments.call.node.attributes
    result: list[object] = []
    for name, item in raw.items():
        if isinstance(item, Graph):
            result.append(item)
        elif isinstance(item, tuple):
            result.append(arguments.listed(name))
        else:
            found = arguments.value(name)
            result.append(item if found is None else found)
    return result


def bodies(arguments: Arguments) -> list[Graph]:
    return [item for item in positional(arguments) if isinstance(item, Graph)]


def after_last_body(arguments: Arguments) -> list[Value | None]:
    """Return the values that are passed on, lists of them flattened."""
    items = positional(arguments)
    last = max(index for index, item in enumerate(items) if isinstance(item, Graph))
    return _values(items[last + 1 :])


def _values(items: list[object]) -> list[Value | None]:
    found: list[Value | None] = []
    for item in items:
        if isinstance(item, list):
            found.extend(item)
        elif item is None or isinstance(item, bool | int | float | str | tuple | Graph):
            continue
        else:
            found.append(item)  # type: ignore[arg-type]
    return found


def follow(arguments: Arguments, body: Graph, values: list[Value | None]) -> tuple[Value, ...]:
    """Return the outputs of a graph for these inputs."""
    if len(body.inputs) != len(values):
        raise UndecidableError(f"{len(values)} values are passed to a graph of {len(body.inputs)} inputs")
    bound = {inner.name: value for inner, value in zip(body.inputs, values, strict=True) if value is not None}
    return arguments.call.setting.follow_body(body, bound, {})


def through(arguments: Arguments) -> Result:
    """One graph, called as it is."""
    (body,) = bodies(arguments)
    return follow(arguments, body, after_last_body(arguments))


def branch(arguments: Arguments) -> Result:
    """One of two graphs, as a single truth value says."""
    first, second = bodies(arguments)
    condition = operand(_first_value(arguments))
    if isinstance(condition, Constant) and (values := condition.values()) is not None and values.size == 1:
        return follow(arguments, first if values.reshape(-1)[0] else second, after_last_body(arguments))
    given = after_last_body(arguments)
    yes, no = follow(arguments, first, given), follow(arguments, second, given)
    return tuple(_either(condition, left, right) for left, right in zip(yes, no, strict=True))


def _first_value(arguments: Arguments) -> Value | None:
    item = positional(arguments)[0]
    return arguments.call.constant(np.asarray(item)) if isinstance(item, bool) else item  # type: ignore[return-value]


def _either(condition: Cells | Constant, left: Value, right: Value) -> Value:
    one, other = operand(left), operand(right)
    if one.shape != other.shape:
        raise UndecidableError("the branches give arrays of different shapes")
    return chosen("cond", reshaped(as_cells(condition), ()), one, other)


def loop(arguments: Arguments) -> Result:
    """Repeats its body while a condition holds that is computed from constants."""
    condition, body = bodies(arguments)
    items = positional(arguments)
    groups = [item for item in items if isinstance(item, list)]
    carried, others = list(groups[0]), list(groups[1]) if len(groups) > 1 else []
    for _ in range(MAX_STEPS):
        (going,) = follow(arguments, condition, [*carried, *others])
        if not isinstance(going, Constant) or (values := going.values()) is None:
            raise UndecidableError("how often the loop runs depends on the data")
        if not values.reshape(-1)[0]:
            return tuple(value for value in carried if value is not None)
        carried = list(follow(arguments, body, [*carried, *others]))
    raise UndecidableError(f"a loop of more than {MAX_STEPS} rounds")


def each_slice(arguments: Arguments) -> Result:
    """``map``: a graph for every slice along the first axis, whatever the others hold."""
    (body,) = bodies(arguments)
    groups = [item for item in positional(arguments) if isinstance(item, list)]
    mapped = [operand(value) for value in groups[0]]
    others = list(groups[1]) if len(groups) > 1 else []
    count = mapped[0].shape[0]
    rounds = [
        follow(arguments, body, [*(_slice(array, index) for array in mapped), *others]) for index in range(_few(count))
    ]
    return tuple(_stacked([outputs[place] for outputs in rounds]) for place in range(len(rounds[0])))


def scan(arguments: Arguments) -> Result:
    """A graph for every slice along the first axis, with what it carries from one to the next."""
    (body,) = bodies(arguments)
    groups = [item for item in positional(arguments) if isinstance(item, list)]
    carried, scanned = list(groups[0]), [operand(value) for value in groups[1]]
    others = list(groups[2]) if len(groups) > 2 else []
    rounds: list[tuple[Value, ...]] = []
    for index in range(_few(scanned[0].shape[0])):
        slices: list[Value | None] = [_slice(array, index) for array in scanned]
        outputs = follow(arguments, body, [*carried, *slices, *others])
        carried, kept = list(outputs[: len(carried)]), outputs[len(carried) :]
        rounds.append(kept)
    stacked = tuple(_stacked([kept[place] for kept in rounds]) for place in range(len(rounds[0])))
    return (*(value for value in carried if value is not None), *stacked)


def _few(count: int) -> int:
    if not 1 <= count <= MAX_STEPS:
        raise UndecidableError(f"{count} rounds are not followed")
    return count


def _slice(array: Cells | Constant, index: int) -> Value:
    if isinstance(array, Constant) and (values := array.values()) is not None:
        return Constant(array.ledger, values=values[index])
    return squeezed(sliced(as_cells(array), 0, index, 1, 1), (0,))


def _stacked(values: list[Value]) -> Value:
    parts = [as_cells(operand(value)) for value in values]
    return concatenated([reshaped(part, (1, *part.shape)) for part in parts], 0)


def fold(arguments: Arguments) -> Result:
    """``associative_scan``: each slice along the first axis combined with some of the others."""
    arrays = [operand(value) for value in next(item for item in positional(arguments) if isinstance(item, list))]
    results: list[Value] = []
    wholes = [reduced(array, (0,), (arguments.op, index), ordered=True) for index, array in enumerate(arrays)]
    for index, array in enumerate(arrays):
        own = as_cells(array)
        joint = pointwise((arguments.op, index), [own, *(broadcast(w, w.shape) for w in wholes)])
        results.append(replace(less_certain(joint)))
    return tuple(results)


TABLE: dict[str, Entry] = {
    **dict.fromkeys(
        (
            *("higher_order.wrap", "higher_order.wrap_with_set_grad_enabled", "higher_order.wrap_with_autocast"),
            *("higher_order.strict_mode", "higher_order.hints_wrapper", "higher_order.tag_activation_checkpoint"),
            *("higher_order.wrap_activation_checkpoint", "higher_order.invoke_subgraph"),
        ),
        through,
    ),
    "higher_order.cond": branch,
    "higher_order.while_loop": loop,
    "higher_order.map_impl": each_slice,
    "higher_order.map": each_slice,
    "higher_order.scan": scan,
    "higher_order.associative_scan": fold,
}
