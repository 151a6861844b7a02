"""All ATen operators that are followed."""

from __future__ import annotations

from bn_audit.flow.aten_operators import (
    arithmetic,
    control,
    creating,
    elementwise,
    indexing,
    layers,
    linear,
    making,
    norms,
    rearranging,
    recurrent,
    reducing,
    shaping,
    splitting,
    writing,
)
from bn_audit.flow.aten_operators.arguments import Arguments, Computation, Entry
from bn_audit.flow.call import Call, Evaluator, Handler, Result
from bn_audit.flow.constants import Array
from bn_audit.flow.following import Dialect

ENTRIES: dict[str, Entry] = {
    **elementwise.TABLE,
    **shaping.TABLE,
    **splitting.TABLE,
    **reducing.TABLE,
    **linear.TABLE,
    **layers.TABLE,
    **norms.TABLE,
    **indexing.TABLE,
    **writing.TABLE,
    **creating.TABLE,
    **recurrent.TABLE,
    **control.TABLE,
}

COMPUTATIONS: dict[str, Computation] = {**arithmetic.TABLE, **rearranging.TABLE, **making.TABLE}


def _handler(entry: Entry) -> Handler:
    def handle(call: Call) -> Result:
        return entry(Arguments(call))

    return handle


def _evaluator(computation: Computation) -> Evaluator:
    def evaluate(call: Call, _: list[Array]) -> Array | tuple[Array, ...]:
        return computation(Arguments(call))

    return evaluate


ATEN = Dialect(
    handlers={("", name): _handler(entry) for name, entry in ENTRIES.items()},
    evaluators={("", name): _evaluator(computation) for name, computation in COMPUTATIONS.items()},
    fixed_sizes=True,
)
