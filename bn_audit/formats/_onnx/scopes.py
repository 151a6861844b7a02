"""Where the values of a graph come from, across the bodies of control-flow operators."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from bn_audit.containers.onnx_file.records import TensorRecord
from bn_audit.formats._onnx.calls import Body, Call
from bn_audit.subject.graph import Dim, GraphValue
from bn_audit.subject.tensor import TensorRef

RANDOM = frozenset(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout")
)
"""Operators that may draw numbers, so that their results are never constant."""

_MAY_DRAW = re.compile(r"random|dropout|noise|sample|bernoulli|multinomial", re.IGNORECASE)
"""Names of operators of other domains that are not taken for functions of their inputs."""

_SIZES = frozenset(("Shape", "Size"))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scope:
    """A graph or body while its values are looked up.

    Attributes:
        outer: The graph around this body; None for the model's own.
        makers: The call that makes each value.
        fixed: Values that are computed from constants alone, or are constants.
        sized: Further values, which constants and the sizes of other values determine.
        inputs: What is given from outside, by name.
        known: What was found out about constant values; see the module ``evaluation``.
        computed: Number of elements of the values in `known` that are computed when asked for, in one list that all
            scopes of a graph share.
        sizes: Values that are lists of sizes; see the module ``size_lists``.
        inner: The bodies of its calls, in order.
    """

    body: Body
    outer: Scope | None
    makers: dict[str, Call]
    fixed: set[str]
    sized: set[str]
    inputs: dict[str, GraphValue]
    known: dict[str, TensorRef | None] = field(default_factory=dict)
    computed: list[int] = field(default_factory=list)
    sizes: dict[str, tuple[Dim, ...]] = field(default_factory=dict)
    inner: list[Scope] = field(default_factory=list)

    def owner(self, value: str) -> Scope | None:
        """Return the scope in which a value is made or given; None for a value of none."""
        scope: Scope | None = self
        while scope is not None and not scope.holds(value):
            scope = scope.outer
        return scope

    def holds(self, value: str) -> bool:
        """Return whether a value is made or given here."""
        return value in self.makers or value in self.body.graph.constants or value in self.inputs

    def maker(self, value: str) -> tuple[Scope, Call] | None:
        """Return the call that makes a value and the scope it stands in; None where no call does."""
        owner = self.owner(value)
        call = owner.makers.get(value) if owner is not None else None
        return None if owner is None or call is None else (owner, call)

    def constant(self, value: str) -> TensorRef | None:
        """Return the stored tensor that a value is; None where it is computed or given."""
        owner = self.owner(value)
        return None if owner is None else owner.body.graph.constants.get(value)

    def record(self, value: str) -> TensorRecord | None:
        """Return the stored tensor as the file describes it."""
        owner = self.owner(value)
        return None if owner is None else owner.body.records.get(value)

    def is_fixed(self, value: str) -> bool:
        """Return whether constants alone determine a value."""
        owner = self.owner(value)
        return owner is not None and value in owner.fixed

    def is_sized(self, value: str) -> bool:
        """Return whether constants and sizes alone determine a value, whatever the samples are."""
        owner = self.owner(value)
        return owner is not None and (value in owner.fixed or value in owner.sized)

    def walk(self) -> Iterator[Scope]:
        """Yield this scope and everything inside it."""
        yield self
        for scope in self.inner:
            yield from scope.walk()


def open_scope(body: Body, outer: Scope | None = None) -> Scope:
    """Return the scope of a graph with the scopes of all bodies inside it."""
    makers = {value: call for call in body.calls for value in call.node.outputs if value}
    inputs = {value.name: value for value in body.graph.inputs}
    scope = Scope(
        body=body,
        outer=outer,
        makers=makers,
        fixed=set(body.graph.constants),
        sized=set[str](),
        inputs=inputs,
        computed=outer.computed if outer is not None else [0],
    )
    for call in body.calls:
        if not call.bodies and not may_draw(call):
            # CastLike takes nothing but the dtype from its second input.
            read = call.node.inputs[:1] if call.node.op == "CastLike" else call.node.inputs
            values = [value for value in read if value]
            made = [value for value in call.node.outputs if value]
            if all(scope.is_fixed(value) for value in values):
                scope.fixed.update(made)
            elif call.node.op in _SIZES or all(scope.is_sized(value) for value in values):
                scope.sized.update(made)
        scope.inner.extend(open_scope(inner, scope) for _, inner in call.bodies)
    return scope


def may_draw(call: Call) -> bool:
    """Return whether a node may give different results for the same inputs."""
    if call.node.domain:
        return _MAY_DRAW.search(call.node.op) is not None
    return call.node.op in RANDOM
