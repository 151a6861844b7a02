"""What happens while TorchScript code is evaluated symbolically: values, norm calls, random calls."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bn_audit.flow.origin import Operation
from bn_audit.formats._torchscript.folding import folded
from bn_audit.formats._torchscript.operators import (
    DROPOUTS,
    NORMS,
    RANDOM,
    RANDOM_WHEN_TRAINING,
    RECURRENT,
    NormSignature,
)
from bn_audit.formats._torchscript.shapes import Shape, output_shape
from bn_audit.formats._torchscript.values import (
    NO_FLAGS,
    Choice,
    Constant,
    Module,
    Sequence,
    Slot,
    Tensor,
    Uninitialised,
    Value,
    integers,
    number_of,
    sequence_of,
    tensor_names,
)
from bn_audit.subject.subject import RandomCall

NOTHING = Constant(None)

_FEEDERS = re.compile(r"_?conv\w*$|linear$|(?:prim\.)?mkldnn_convolution$")
"""Operators with a weight as second operand: layers that a batch norm can follow."""

MUTATORS = frozenset(("append", "insert", "extend", "_set_item", "reverse", "sort", "update", "setdefault"))
"""Operators that change a list or dict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a call stands.

    Attributes:
        path: Of the module whose method makes the call, directly or through functions.
        node: Name that this method gives the result; ``""`` for none.
        flags: Paths of the modules whose ``training`` decides whether the call is made.
    """

    path: str
    node: str
    flags: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NormCall:
    """One call of a normalisation operator."""

    op: str
    place: Place
    input: Value
    weight: Value
    bias: Value
    mean: Value
    variance: Value
    training: Value
    momentum: Value
    eps: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedCall:
    """One call of a convolution or linear operator whose weight is a constant of the code."""

    op: str
    node: str
    arguments: tuple[Value, ...]


_ALIASES = {"prim.mkldnn_convolution": "mkldnn_convolution", "to_mkldnn": "to", "to_dense": "to"}
"""Operators under the names that the batch flow knows."""


class Graph:
    """Collects the values and calls of one evaluation.

    Attributes:
        producers: What computed each value, as far as samples flow through it.
        inputs: Names of the values that the caller gives.
        parameters: Names of stored tensors.
        sources: Names of the values that may differ between rows though they read nothing: random and unknown ones.
        writes: For each call that changes its first operand in place: name of that operand, names of the others.
        made_by: Path of the layer that made a value, for layers with weights.
        unsure: A list changed in a way that is not followed, so that nothing is proved to come from parameters alone.
        norms: Every call of a normalisation operator, in order.
        randoms: Every call that draws random numbers.
        weighted: Every convolution and linear call whose weight is a constant of the code.
        detailed: Shapes are inferred too.
    """

    def __init__(self, *, detailed: bool) -> None:
        self.producers: dict[str, Operation] = {}
        self.inputs: set[str] = set()
        self.parameters: set[str] = set()
        self.sources: set[str] = set()
        self.writes: list[tuple[str, tuple[str, ...]]] = []
        self.unsure = False
        self.made_by: dict[str, str] = {}
        self.norms: list[NormCall] = []
        self.randoms: list[RandomCall] = []
        self.weighted: list[WeightedCall] = []
        self.detailed = detailed
        self._count = 0

    def argument(self, name: str) -> Tensor:
        """Return an argument of the model's entry point."""
        self.inputs.add(f"argument {name}")
        return Tensor(f"argument {name}", argument=True)

    def stored(self, slot: Slot, shape: Shape | None) -> Tensor:
        """Return a stored tensor."""
        name = slot.qualified
        self.parameters.add(name)
        if shape is not None:
            self.producers[name] = Operation(op="stored", inputs=(), shape=shape)
        return Tensor(name, slot, shape)

    def computed(self, op: str, arguments: tuple[Value, ...]) -> Tensor:
        """Return a new value that an operator computes."""
        self._count += 1
        name = f"%{self._count}"
        shape = output_shape(op, arguments, name) if self.detailed else None
        sizes = integers(arguments) if self.detailed else ()
        self.producers[name] = Operation(
            op=_ALIASES.get(op, op), inputs=tensor_names(arguments), integers=sizes, shape=shape
        )
        return Tensor(name, shape=shape)

    def unknown(self) -> Tensor:
        """Return a value of which nothing is known."""
        value = self.computed("unknown", ())
        self.sources.add(value.name)
        return value

    def one_of(self, values: tuple[Value, ...]) -> Tensor:
        """Return a value that is one of several."""
        return self.computed("where", values)

    def operate(self, op: str, arguments: tuple[Value, ...], named: Mapping[str, Value], place: Place) -> Value:
        """Return the result of an operator, and note it where it normalises or draws random numbers."""
        known = folded(op, arguments)
        if known is not None:
            return known
        if op in MUTATORS or (op.endswith("_") and not op.endswith("__")):
            self._write(op, arguments)
        if op in NORMS:
            self._normalise(op, arguments, place)
        elif op in DROPOUTS or op in RECURRENT or op in RANDOM_WHEN_TRAINING:
            self._drop(op, arguments, named, place)
        result = self.computed(op, (*arguments, *named.values()) if named else arguments)
        if _FEEDERS.match(op) and len(arguments) > 1 and isinstance(arguments[1], Tensor):
            slot = arguments[1].slot
            if slot is not None and slot.path:
                self.made_by[result.name] = slot.path
            elif slot is not None and slot.path is None:
                self.weighted.append(WeightedCall(op=op, node=place.node or result.name, arguments=arguments))
        if op in RANDOM:
            self.sources.add(result.name)
            self._note(op, place, is_dropout=False, probability=None, live=True)
        return result

    def _write(self, op: str, arguments: tuple[Value, ...]) -> None:
        first = arguments[0] if arguments else NOTHING
        if not isinstance(first, Tensor) or (op in MUTATORS and first.name in self.parameters):
            self.unsure = True
        elif first.name not in self.parameters:
            self.writes.append((first.name, tensor_names(arguments[1:])))

    def _normalise(self, op: str, arguments: tuple[Value, ...], place: Place) -> None:
        signature = next((item for item in NORMS[op] if item.arity in (None, len(arguments))), NORMS[op][-1])
        self.norms.append(_norm_call(op, signature, arguments, place))

    def _drop(self, op: str, arguments: tuple[Value, ...], named: Mapping[str, Value], place: Place) -> None:
        if op in RANDOM_WHEN_TRAINING:
            place_of_flag = RANDOM_WHEN_TRAINING[op]
            # The printer leaves out trailing arguments that have their default, here False.
            live = _truth(arguments[place_of_flag]) if place_of_flag < len(arguments) else False
            self._note(op, place, is_dropout=False, probability=None, live=live)
            return
        if op in RECURRENT:
            # The overload for packed sequences has one argument more in front of the flags.
            shift = 0 if isinstance(_at(arguments, 3), Constant) else 1
            probability, training = _at(arguments, 5 + shift), _at(arguments, 6 + shift)
            optional = True
        else:
            signature = DROPOUTS[op]
            probability = named.get("dropout_p", _at(arguments, signature.probability))
            training = Constant(True) if signature.training is None else _at(arguments, signature.training)
            optional = signature.training is None
        number = number_of(probability)
        if optional and (number == 0 or probability == NOTHING):
            return
        self._note(op, place, is_dropout=True, probability=number, live=False if number == 0 else _truth(training))

    def _note(self, op: str, place: Place, *, is_dropout: bool, probability: float | None, live: bool | None) -> None:
        self.randoms.append(
            RandomCall(
                model="",
                path=place.path,
                node=place.node or op,
                op=f"aten::{op}",
                is_dropout=is_dropout,
                probability=probability,
                live=live,
            )
        )


def _norm_call(op: str, signature: NormSignature, arguments: tuple[Value, ...], place: Place) -> NormCall:
    fixed = signature.training_is_fixed
    return NormCall(
        op=op,
        place=place,
        input=_at(arguments, 0),
        weight=_at(arguments, 1),
        bias=_at(arguments, 2),
        mean=_at(arguments, signature.mean),
        variance=_at(arguments, signature.variance),
        training=Constant(bool(signature.training)) if fixed else _at(arguments, int(signature.training)),
        momentum=_at(arguments, signature.momentum),
        eps=_at(arguments, signature.eps),
    )


def _at(arguments: tuple[Value, ...], place: int | None) -> Value:
    return arguments[place] if place is not None and place < len(arguments) else NOTHING


def _truth(value: Value) -> bool | None:
    return value.value if isinstance(value, Constant) and isinstance(value.value, bool) else None


def joined(graph: Graph, values: Iterable[Value]) -> Value:
    """Return what is known about a value that is one of several."""
    different: list[Value] = []
    for value in values:
        if not isinstance(value, Uninitialised) and value not in different:
            different.append(value)
    if not different:
        return Uninitialised()
    if len(different) == 1:
        return different[0]
    if all(isinstance(value, Constant) for value in different):
        constants = [value for value in different if isinstance(value, Constant)]
        if len({(type(value.value), value.value) for value in constants}) == 1:
            return Constant(constants[0].value, NO_FLAGS.union(*(value.flags for value in constants)))
    if all(isinstance(value, Module) for value in different):
        return Choice(tuple(value for value in different if isinstance(value, Module)))
    sequences = [value for value in different if isinstance(value, Sequence)]
    if len(sequences) == len(different) and len({len(value.items) for value in sequences}) == 1:
        columns = zip(*(value.items for value in sequences), strict=True)
        return sequence_of(tuple(joined(graph, items) for items in columns))
    return graph.one_of(tuple(different))
