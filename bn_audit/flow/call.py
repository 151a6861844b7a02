"""One call of an operator, as an operator's table entry sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from bn_audit.flow.algebra import Operand
from bn_audit.flow.cells import UndecidableError
from bn_audit.flow.constants import Array, Constant, Ledger
from bn_audit.flow.values import Value, known, operand, whole
from bn_audit.subject.graph import AttributeValue, Graph, Node
from bn_audit.subject.tensor import TensorRef


class Setting(Protocol):
    """What surrounds a call: the run it belongs to."""

    batch_size: int
    ledger: Ledger
    relaxing: bool
    declared_batch: int | None

    def follow_body(
        self, body: Graph, inputs: Mapping[str, Value], outer: MutableMapping[str, Value]
    ) -> tuple[Value, ...]:
        """Follow a graph inside the graph and return its outputs."""

    def relaxed(self, node: Node, what: str) -> None:
        """Record that a hard-coded batch size was replaced."""

    def remark(self, kind: str, node: Node, why: str) -> None:
        """Record a mark on a node."""


@dataclass(frozen=True, slots=True)
class Call:
    """The operands and settings of one call.

    Attributes:
        version: Version of the operator set that the node belongs to.
        names: All values visible to the node, for the bodies that it calls.
    """

    node: Node
    inputs: tuple[Value | None, ...]
    version: int
    setting: Setting
    names: MutableMapping[str, Value]

    @property
    def seed(self) -> tuple[object, ...]:
        """What tells this function from others: the operator with its plain attributes."""
        plain = tuple((name, value) for name, value in sorted(self.node.attributes.items()) if _is_plain(value))
        return (self.node.domain, self.node.op, plain)

    def has(self, index: int) -> bool:
        """Whether the input is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def operand(self, index: int) -> Operand:
        """Return an input that must be an array."""
        return operand(self.inputs[index] if index < len(self.inputs) else None)

    def operands(self) -> list[Operand]:
        """Return all inputs that are given."""
        return [operand(value) for value in self.inputs if value is not None]

    def known(self, index: int) -> Array:
        """Return the elements of an input that must be a constant."""
        return known(self.inputs[index] if index < len(self.inputs) else None)

    def whole(self, index: int) -> tuple[int, ...]:
        """Return the elements of an input that must be a constant of integers."""
        return whole(self.inputs[index] if index < len(self.inputs) else None)

    def attribute(self, name: str) -> AttributeValue:
        return self.node.attributes.get(name)

    def integer(self, name: str, default: int) -> int:
        value = self.attribute(name)
        return int(value) if isinstance(value, int | float) else default

    def number(self, name: str, default: float) -> float:
        value = self.attribute(name)
        return float(value) if isinstance(value, int | float) else default

    def integers(self, name: str) -> tuple[int, ...] | None:
        value = self.attribute(name)
        if isinstance(value, tuple):
            return tuple(int(element) for element in value if isinstance(element, int | float))
        return None

    def text(self, name: str, default: str) -> str:
        value = self.attribute(name)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return value if isinstance(value, str) else default

    def graph(self, name: str) -> Graph:
        value = self.attribute(name)
        if isinstance(value, Graph):
            return value
        raise UndecidableError(f"its body {name!r} is missing")

    def tensor(self, name: str) -> Constant | None:
        value = self.attribute(name)
        return Constant(self.setting.ledger, reference=value) if isinstance(value, TensorRef) else None

    def constant(self, values: Array) -> Constant:
        """Return computed values as a constant."""
        return Constant(self.setting.ledger, values=values)

    def wants(self, index: int) -> bool:
        """Whether an output is used."""
        return index < len(self.node.outputs) and bool(self.node.outputs[index])


def _is_plain(value: AttributeValue) -> bool:
    return isinstance(value, bool | int | float | str | bytes) or (
        isinstance(value, tuple) and all(_is_plain(element) for element in value)
    )


Result: TypeAlias = "Value | tuple[Value, ...]"
Handler: TypeAlias = Callable[[Call], Result]
"""An entry of an operator table; returns the outputs in the schema's order, trailing ones left out at will."""
Evaluator: TypeAlias = Callable[[Call, list[Array]], "Array | tuple[Array, ...]"]
"""Computes the outputs of an operator on constants."""
