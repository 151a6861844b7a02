"""All ATen operators that are followed."""

from __future__ import annotations

import numpy as np

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
    quantising,
    rearranging,
    recurrent,
    reducing,
    shaping,
    splitting,
    writing,
)
from bn_audit.flow.aten_operators.arguments import Arguments, Computation, Entry
from bn_audit.flow.call import Call, Evaluator, Handler, Result
from bn_audit.flow.constants import Array, thinned
from bn_audit.flow.following import Dialect

FEW = 64
"""Elements of a constant that are not worth a look."""

ENTRIES: dict[str, Entry] = {
    **elementwise.TABLE,
    **shaping.TABLE,
    **splitting.TABLE,
    **reducing.TABLE,
    **linear.TABLE,
    **layers.TABLE,
    **norms.TABLE,
    **quantising.TABLE,
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
        result = computation(Arguments(call))
        return tuple(map(repeated, result)) if isinstance(result, tuple) else repeated(result)

    return evaluate


def repeated(array: Array) -> Array:
    """Return an array as a view with step 0 along the axes along which its elements are the same.

    What is computed once for each sample stays as small at every batch size.
    """
    if array.size <= FEW:
        return array
    thin = thinned(array)
    for axis in range(thin.ndim):
        first = thin[(*(slice(None),) * axis, slice(0, 1))]
        if thin.shape[axis] > 1 and bool((thin == first).all()):
            thin = first
    return array if thin.shape == thinned(array).shape else np.broadcast_to(thin, array.shape)


ATEN = Dialect(
    handlers={("", name): _handler(entry) for name, entry in ENTRIES.items()},
    evaluators={("", name): _evaluator(computation) for name, computation in COMPUTATIONS.items()},
    fixed_sizes=True,
)
