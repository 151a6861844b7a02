"""What evaluating TorchScript code symbolically knows about a value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bn_audit.errors import LimitExceededError
from bn_audit.flow.placement import Size
from bn_audit.formats._torchscript.statements import Block

MAX_ITEMS = 100_000
"""Cap on the elements of one list in the code; anchors of detection models have some thousand."""

NO_FLAGS: frozenset[str] = frozenset()

Literal = bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that is known.

    Attributes:
        flags: Paths of the modules on whose saved ``training`` attribute it depends.
    """

    value: Literal
    flags: frozenset[str] = NO_FLAGS


@dataclass(frozen=True, slots=True)
class Symbol:
    """The size of a dimension, as text; the same text is the same size."""

    text: str


@dataclass(frozen=True, slots=True)
class Slot:
    """Where the archive stores a tensor.

    Attributes:
        path: Module path of the owner; None for a constant in the code.
        name: Attribute, or ``c7`` for the constant with index 7.
    """

    path: str | None
    name: str

    @property
    def qualified(self) -> str:
        """The tensor's name within the model."""
        if self.path is None:
            return f"CONSTANTS.{self.name}"
        return f"{self.path}.{self.name}" if self.path else self.name


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value that the graph computes, a stored tensor or an argument; a number or a tuple too, where not known.

    Attributes:
        name: Unique in the evaluation.
        slot: For a stored tensor.
        shape: As far as known.
        argument: Given by the caller of the model.
    """

    name: str
    slot: Slot | None = None
    shape: tuple[Size, ...] | None = None
    argument: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list or tuple of known length.

    Attributes:
        weight: Number of elements, nested sequences flattened.
    """

    items: tuple[Value, ...]
    weight: int


@dataclass(frozen=True, slots=True, eq=False)
class Module:
    """A module of the tree, or an object of a TorchScript class, which has the path of the module that made it.

    Attributes:
        class_name: Qualified name of its class.
        state: Its stored attributes; empty for an object.
        interesting: It or a module below it can normalise or draw random numbers.
        assigned: What the code assigned to its attributes since.
    """

    path: str
    class_name: str
    state: Mapping[object, object]
    interesting: bool
    assigned: dict[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several modules, chosen by an index that is not known."""

    modules: tuple[Module, ...]


@dataclass(frozen=True, slots=True)
class FunctionName:
    """A function or class of the code."""

    qualified: str


@dataclass(frozen=True, slots=True)
class LocalFunction:
    """The body of a fork."""

    body: Block


@dataclass(frozen=True, slots=True)
class Uninitialised:
    """What a branch that raises leaves behind."""


Value = Constant | Symbol | Tensor | Sequence | Module | Choice | FunctionName | LocalFunction | Uninitialised


def sequence_of(items: tuple[Value, ...]) -> Sequence:
    """Return a list or tuple.

    Raises:
        LimitExceededError: it is absurdly long; nested ones double their length in one line each.
    """
    weight = sum(item.weight if isinstance(item, Sequence) else 1 for item in items)
    if weight > MAX_ITEMS:
        raise LimitExceededError(f"a list of {weight} elements in the code, more than {MAX_ITEMS}: not read")
    return Sequence(items, weight)


def tensor_names(values: Iterable[Value]) -> tuple[str, ...]:
    """Return the names of the tensors among the values, sequences flattened."""
    names: list[str] = []
    for value in values:
        if isinstance(value, Tensor):
            names.append(value.name)
        elif isinstance(value, Sequence):
            names.extend(tensor_names(value.items))
    return tuple(names)


def integers(values: Iterable[Value]) -> tuple[int | None, ...]:
    """Return the integers among the values, sequences flattened; None for a size that is not a number."""
    found: list[int | None] = []
    for value in values:
        if isinstance(value, Constant):
            if isinstance(value.value, int) and not isinstance(value.value, bool):
                found.append(value.value)
        elif isinstance(value, Symbol):
            found.append(None)
        elif isinstance(value, Sequence):
            found.extend(integers(value.items) if not any(isinstance(item, Tensor) for item in value.items) else ())
    return tuple(found)


def number_of(value: Value) -> float | None:
    """Return a constant number; None for anything else, truth values too."""
    if isinstance(value, Constant) and isinstance(value.value, int | float) and not isinstance(value.value, bool):
        return float(value.value)
    return None
