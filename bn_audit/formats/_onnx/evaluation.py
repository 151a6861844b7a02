"""The values that constants alone determine.

Exporters and optimisers leave short chains between a stored tensor and a batch norm: copies, casts, dequantisation,
a little arithmetic. A chain with any other operator is a constant of unknown value.
"""

from __future__ import annotations

from collections.abc import Sequence

from bn_audit.errors import ArtifactError
from bn_audit.formats._onnx.folding import FOLDS
from bn_audit.formats._onnx.scopes import Scope
from bn_audit.subject.tensor import TensorRef

MAX_CHAIN = 64
"""Cap on the calls between a value and the constants behind it."""

MAX_COMPUTED = 1 << 22
"""Cap on the elements that are computed in one file, some seconds; the light models of ONNX compute 300 000."""

MAX_INTEGERS = 64
"""Longest list of axes or sizes that is looked at."""


def constant(scope: Scope, value: str, depth: int = 0) -> TensorRef | None:
    """Return a value as a tensor named like it; None where it is not constant, or of an operator not computed here."""
    owner = scope.owner(value)
    if owner is None or value not in owner.fixed or depth > MAX_CHAIN:
        return None
    stored = owner.body.graph.constants.get(value)
    if stored is not None:
        return stored
    if value not in owner.known:
        owner.known[value] = _folded(owner, value, depth)
    return owner.known[value]


def _folded(owner: Scope, value: str, depth: int) -> TensorRef | None:
    node = owner.makers[value].node
    handler = FOLDS.get(node.op)
    if handler is None or node.domain or node.outputs[0] != value:
        return None
    inputs = [constant(owner, name, depth + 1) if name else None for name in node.inputs]
    if any(name and tensor is None for name, tensor in zip(node.inputs, inputs, strict=True)):
        return None
    try:
        found = handler(owner.makers[value], inputs)
    except (ArtifactError, ValueError, ArithmeticError, IndexError, TypeError):
        # A node of the wrong arity or with impossible arguments determines no value.
        return None
    if found is None or not _affordable(owner, inputs, found):
        return None
    return TensorRef(name=value, dtype=found.dtype, shape=found.shape, load=found.load)


def _affordable(owner: Scope, inputs: Sequence[TensorRef | None], found: TensorRef) -> bool:
    """Return whether a value may be computed: without a limit, a short file could ask for any number of elements."""
    if any(tensor is not None and tensor.load is found.load for tensor in inputs):
        return True
    owner.computed[0] += found.numel
    return owner.computed[0] <= MAX_COMPUTED


def integers(scope: Scope, value: str) -> tuple[int, ...] | None:
    """Return the elements of a small constant list of integers; None where they are not known."""
    tensor = constant(scope, value) if value else None
    if tensor is None or tensor.dtype not in ("int64", "int32") or tensor.numel > MAX_INTEGERS:
        return None
    try:
        return tuple(int(item) for item in tensor.values())
    except ArtifactError:
        return None
