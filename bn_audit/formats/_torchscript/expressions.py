"""Expressions of TorchScript code, evaluated symbolically."""

from __future__ import annotations

import ast
from collections.abc import Sequence as Values
from dataclasses import dataclass
from typing import Protocol

from bn_audit.errors import LimitExceededError
from bn_audit.formats._torchscript.folding import folded
from bn_audit.formats._torchscript.graph import Graph
from bn_audit.formats._torchscript.statements import attribute_name
from bn_audit.formats._torchscript.values import (
    MAX_ITEMS,
    Choice,
    Constant,
    FunctionName,
    LocalFunction,
    Module,
    Sequence,
    Tensor,
    Uninitialised,
    Value,
    sequence_of,
)

_ROOTS = frozenset(("torch", "ops", "__torch__", "CONSTANTS", "aten"))
_NUMBERS = {"inf": float("inf"), "nan": float("nan"), "True": True, "False": False, "None": None}
_CONVERSIONS = frozenset(("int", "float", "bool", "str"))


@dataclass(slots=True, eq=False)
class Frame:
    """One call in progress.

    Attributes:
        names: Value of each local name.
        path: Of the module whose method runs, directly or through functions.
        node: Name that this method gives the value being computed; a function keeps its caller's.
        is_method: The call is of a method.
        mutates: Its code changes lists or dicts.
    """

    names: dict[str, Value]
    path: str
    node: str
    is_method: bool
    mutates: bool = False


class Host(Protocol):
    """What evaluating an expression needs from the evaluation it is part of."""

    graph: Graph

    def attribute(self, module: Module, name: str) -> Value:
        """Return an attribute of a module or object."""

    def children(self, container: Module) -> tuple[Module, ...]:
        """Return the modules in a container."""

    def constant(self, name: str) -> Value:
        """Return a constant of the code that is stored apart, such as ``c7``."""

    def new_object(self, class_name: str, frame: Frame) -> Value:
        """Return a new object of a TorchScript class."""

    def operator(self, op: str, arguments: tuple[Value, ...], named: dict[str, Value], frame: Frame) -> Value:
        """Return the result of an operator."""

    def function(self, qualified: str, arguments: tuple[Value, ...], frame: Frame) -> Value:
        """Return the result of a function."""

    def method(self, receiver: Value, name: str, arguments: tuple[Value, ...], frame: Frame) -> Value:
        """Return the result of a method."""

    def fork(self, function: LocalFunction, frame: Frame) -> Value:
        """Return the result of a function defined within the one that runs."""


def evaluate(node: ast.expr, frame: Frame, host: Host) -> Value:
    """Return what is known about the value of an expression."""
    kind = type(node)
    if kind is ast.Name:
        return _name(node.id, frame, host)  # type: ignore[attr-defined]
    if isinstance(node, ast.Call):
        return _call(node, frame, host)
    if isinstance(node, ast.Attribute):
        return _attribute(node, frame, host)
    if isinstance(node, ast.Constant):
        return _literal(node.value, host)
    if isinstance(node, ast.List | ast.Tuple):
        return sequence_of(tuple(evaluate(item, frame, host) for item in node.elts))
    if isinstance(node, ast.UnaryOp):
        return _negated(node, frame, host)
    if isinstance(node, ast.Subscript):
        return _subscript(node, frame, host)
    return host.graph.one_of(tuple(evaluate(child, frame, host) for child in _operands(node)))


def dotted(node: ast.expr) -> str | None:
    """Return a chain of attributes as text, such as ``torch.batch_norm``; None where it begins with no name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    parts.append(node.id)
    return ".".join(reversed(parts))


def _operands(node: ast.expr) -> list[ast.expr]:
    return [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]


def _name(name: str, frame: Frame, host: Host) -> Value:
    value = frame.names.get(name)
    if value is not None:
        return value
    if name in _NUMBERS:
        return Constant(_NUMBERS[name])
    return host.graph.unknown()


def _literal(value: object, host: Host) -> Value:
    if value is None or isinstance(value, bool | int | float | str):
        return Constant(value)
    return host.graph.unknown()


def _negated(node: ast.UnaryOp, frame: Frame, host: Host) -> Value:
    value = evaluate(node.operand, frame, host)
    if isinstance(node.op, ast.USub) and isinstance(value, Constant) and isinstance(value.value, int | float):
        return Constant(-value.value, value.flags)
    return host.graph.one_of((value,))


def _root(text: str | None, frame: Frame) -> str:
    root = text.partition(".")[0] if text else ""
    return root if root in _ROOTS and root not in frame.names else ""


def _attribute(node: ast.Attribute, frame: Frame, host: Host) -> Value:
    if isinstance(node.value, ast.Name) and node.value.id in frame.names:
        return _attribute_of(frame.names[node.value.id], attribute_name(node.attr), host)
    text = dotted(node)
    root = _root(text, frame)
    if text and root == "CONSTANTS":
        return host.constant(node.attr)
    if text and root:
        return FunctionName(text)
    return _attribute_of(evaluate(node.value, frame, host), attribute_name(node.attr), host)


def _attribute_of(value: Value, name: str, host: Host) -> Value:
    if isinstance(value, Module):
        return host.attribute(value, name)
    if isinstance(value, Choice):
        return host.graph.one_of(tuple(host.attribute(module, name) for module in value.modules))
    return host.graph.computed(f"attribute {name}", (value,))


def _subscript(node: ast.Subscript, frame: Frame, host: Host) -> Value:
    value = evaluate(node.value, frame, host)
    if isinstance(node.slice, ast.Slice):
        bounds = tuple(
            evaluate(bound, frame, host) if bound else Constant(None) for bound in (node.slice.lower, node.slice.upper)
        )
        return folded("slice", (value, *bounds)) or host.graph.computed("getitem", (value,))
    index = evaluate(node.slice, frame, host)
    if isinstance(value, Module):
        modules = host.children(value)
        if isinstance(index, Constant) and isinstance(index.value, int | str):
            return host.attribute(value, str(index.value))
        return Choice(modules) if modules else host.graph.unknown()
    return folded("__getitem__", (value, index)) or host.graph.computed("getitem", (value, index))


def _call(node: ast.Call, frame: Frame, host: Host) -> Value:
    function = node.func
    text = dotted(function)
    root = _root(text, frame)
    if isinstance(function, ast.Name) and function.id not in frame.names:
        return _builtin(function.id, node.args, frame, host)
    if text and root and not text.endswith(".__new__"):
        arguments = tuple([evaluate(item, frame, host) for item in node.args])
        if root == "__torch__":
            return host.function(text, arguments, frame)
        named = {item.arg: evaluate(item.value, frame, host) for item in node.keywords if item.arg}
        return host.operator(_operator_name(text), arguments, named, frame)
    if text and root:
        return host.new_object(text.removesuffix(".__new__"), frame)
    arguments = tuple([evaluate(item, frame, host) for item in node.args])
    if isinstance(function, ast.Attribute):
        receiver = evaluate(function.value, frame, host)
        return host.method(receiver, attribute_name(function.attr), arguments, frame)
    called = evaluate(function, frame, host)
    if isinstance(called, FunctionName):
        return host.function(called.qualified, arguments, frame)
    return host.graph.computed("call", arguments)


def _operator_name(text: str) -> str:
    """Return an operator without its namespace, where that is ATen's."""
    namespace, _, name = text.partition(".")
    return name.removeprefix("aten.") if namespace == "ops" else name


def _builtin(name: str, arguments: Values[ast.expr], frame: Frame, host: Host) -> Value:
    if name == "uninitialized":
        return Uninitialised()
    if name in ("annotate", "unchecked_cast") and len(arguments) == 2:
        return evaluate(arguments[1], frame, host)
    values = tuple([evaluate(item, frame, host) for item in arguments])
    if name == "getattr" and len(values) == 2 and isinstance(values[1], Constant):
        return _attribute_of(values[0], str(values[1].value), host)
    if name == "fork" and values and isinstance(values[0], LocalFunction):
        return host.fork(values[0], frame)
    if name in _CONVERSIONS:
        known = folded(name, values)
        return known if known is not None else host.graph.computed(name, values)
    return host.graph.computed("isinstance", ()) if name == "isinstance" else host.graph.computed(name, values)


def unpacked(value: Value, count: int, host: Host) -> tuple[Value, ...]:
    """Return the elements of a tuple."""
    if isinstance(value, Sequence) and len(value.items) == count:
        return value.items
    if count > MAX_ITEMS:
        raise LimitExceededError(f"a tuple of {count} elements in the code, more than {MAX_ITEMS}: not read")
    if isinstance(value, Tensor):
        return tuple(host.graph.computed("getitem", (value,)) for _ in range(count))
    return tuple(host.graph.unknown() for _ in range(count))
