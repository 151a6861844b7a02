"""Shapes of the values of a graph: as the file states them, else as far as the operators tell."""

from __future__ import annotations

from collections.abc import Sequence

from bn_audit.formats._onnx.calls import Call
from bn_audit.formats._onnx.scopes import Scope
from bn_audit.formats._onnx.shape_rules import RULES, Rule
from bn_audit.formats._onnx.size_lists import MAX_LENGTH, follow_sizes
from bn_audit.formats._onnx.sizes import Shape


class Shapes:
    """Shapes by value, found in one pass over a graph and the bodies inside it."""

    def __init__(self, scope: Scope) -> None:
        self._found: dict[int, dict[str, Shape]] = {}
        self._scopes: list[Scope] = []
        self._visit(scope)

    def __call__(self, scope: Scope, value: str) -> Shape:
        """Return the shape of a value as it is seen from a scope; None where not even the rank is known."""
        owner = scope.owner(value)
        return None if owner is None else self._found.get(id(owner), {}).get(value)

    def _visit(self, scope: Scope) -> None:
        self._scopes.append(scope)  # so that its id stays its own
        found = self._found[id(scope)] = dict[str, Shape]()
        for name, tensor in scope.body.graph.constants.items():
            found[name] = tensor.shape
        for name, value in scope.inputs.items():
            found[name] = value.shape
        inner = iter(scope.inner)
        for call in scope.body.calls:
            for _ in call.bodies:
                self._visit(next(inner))
            given = [self(scope, name) for name in call.node.inputs]
            rule = RULES.get(call.node.op) if not call.node.domain else None
            shape = None if rule is None else _guarded(rule, scope, call, given)
            follow_sizes(scope, call, given)
            for index, name in enumerate(call.node.outputs):
                stated = scope.body.types.get(name)
                found[name] = _surer(shape if index == 0 else None, stated.shape if stated is not None else None)


def _surer(inferred: Shape, stated: Shape) -> Shape:
    """Return an inferred shape with what the file states beside it; operators do not err, annotations may."""
    if inferred is None or stated is None or len(inferred) != len(stated):
        return stated if inferred is None else inferred
    return tuple(size if size is not None else other for size, other in zip(inferred, stated, strict=True))


def _guarded(rule: Rule, scope: Scope, call: Call, shapes: Sequence[Shape]) -> Shape:
    try:
        shape = rule(scope, call, shapes)
        return None if shape is not None and len(shape) > MAX_LENGTH else shape
    except (IndexError, TypeError, ValueError, ArithmeticError):
        # A node of the wrong arity or with impossible arguments has no shape.
        return None
