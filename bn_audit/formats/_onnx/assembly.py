"""The graph of an ONNX model out of its records: functions written out where they are called, nodes in order.

Source: onnx/docs/IR.md of ONNX 1.23: names are unique within a graph and its bodies may read the values outside them;
a function is a template, whose attributes are filled in at each call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized

from bn_audit.containers.onnx_file.records import (
    AttributeRecord,
    FunctionRecord,
    GraphRecord,
    ModelRecord,
    NodeRecord,
    RawValue,
    TensorRecord,
    ValueRecord,
)
from bn_audit.containers.onnx_file.tensors import dtype_name, tensor_ref
from bn_audit.containers.source import Source
from bn_audit.errors import LimitExceededError, MalformedFileError
from bn_audit.formats._onnx.calls import Body, Call
from bn_audit.formats._onnx.ordering import Step, check_values, free_values, order
from bn_audit.formats._onnx.value_names import Prefixes, ValueNames
from bn_audit.recognition.onnx_places import Place, place_of
from bn_audit.subject.graph import AttributeValue, Graph, GraphValue, Node

MAX_PARTS = 3_000_000
"""Cap on nodes, their inputs, outputs and attributes after functions are written out, some ten seconds."""

MAX_NESTING = 64
"""Cap on functions and bodies within one another; the exporters nest some ten."""

FunctionKey = tuple[str, str, str]
"""Domain, name and overload."""


def assemble(source: Source, model: ModelRecord, graph: GraphRecord) -> Body:
    """Return the model's graph.

    Raises:
        MalformedFileError: a value is made twice, by nothing, or out of itself.
        LimitExceededError: functions write out to more than what is followed here.
    """
    body = _Assembly(source, model).body(graph, ValueNames(Prefixes(source.name)), {}, model.versions, 0)
    given = [*(value.name for value in body.graph.inputs), *body.graph.constants]
    steps = [_step(call) for call in body.calls]
    check_values(source.name, steps, given, [value.name for value in body.graph.outputs])
    return body


def _step(call: Call) -> Step:
    node = call.node
    inside = {value: reader for _, body in call.bodies for value, reader in body.free.items()}
    return Step(
        reads=inside | {value: node.name for value in node.inputs if value},
        makes=tuple(value for value in node.outputs if value),
    )


_Bindings = Mapping[str, tuple[AttributeValue, tuple[tuple[str, Body], ...]]]
"""Attributes of the function that is written out."""


class _Assembly:
    """The work on one file."""

    def __init__(self, source: Source, model: ModelRecord) -> None:
        self._source = source
        self._functions: dict[FunctionKey, FunctionRecord] = {
            (function.domain, function.name, function.overload): function for function in model.functions
        }
        self._ir_version = model.ir_version
        self._count = 0
        self._parts = 0
        self._places: dict[int, Place] = {}
        self._lists: dict[int, tuple[AttributeValue, ...]] = {}

    def _spend(self, *parts: Sized) -> None:
        """Count what is about to be made; a function is made anew at each call."""
        self._parts += 1 + sum(map(len, parts))
        if self._parts > MAX_PARTS:
            raise LimitExceededError(f"{self._source.name}: more than {MAX_PARTS} parts of nodes are not read")

    def _check_nesting(self, depth: int, what: str) -> None:
        if depth > MAX_NESTING:
            raise MalformedFileError(
                f"{self._source.name}: {what} is nested deeper than {MAX_NESTING}, or a function calls itself: "
                "export the model again"
            )

    def body(
        self, record: GraphRecord, names: ValueNames, bindings: _Bindings, versions: Mapping[str, int], depth: int
    ) -> Body:
        """Return one graph or body, with the names of its values as they are called outside."""
        self._check_nesting(depth, f"graph {record.name!r}")
        self._spend(record.initializers, record.inputs, record.outputs, record.value_info)
        constants = {}
        records = {}
        for tensor in record.initializers:
            name = names[tensor.name]
            if name in constants:
                raise MalformedFileError(f"{self._source.name}: two tensors are named {name!r}: export the model again")
            constants[name] = tensor_ref(self._source, tensor, name)
            records[name] = tensor
        inputs = tuple(
            value for value in (_value(item, names) for item in record.inputs) if value.name not in constants
        )
        calls = self._calls(record.nodes, names, bindings, versions, depth)
        given = [*constants, *(value.name for value in inputs)]
        steps = [_step(call) for call in calls]
        ordered = tuple(calls[index] for index in order(self._source.name, steps, given))
        outputs = tuple(_value(item, names) for item in record.outputs)
        graph = Graph(
            dialect="onnx",
            name=record.name,
            versions=versions,
            inputs=inputs,
            outputs=outputs,
            constants=constants,
            nodes=tuple(call.node for call in ordered),
        )
        described = (*record.value_info, *record.inputs, *record.outputs)
        return Body(
            graph=graph,
            calls=ordered,
            types={value.name: value for value in (_value(item, names) for item in described)},
            records=records,
            free=free_values(steps, given, [value.name for value in outputs]),
        )

    def _calls(
        self,
        nodes: Sequence[NodeRecord],
        names: ValueNames,
        bindings: _Bindings,
        versions: Mapping[str, int],
        depth: int,
    ) -> list[Call]:
        calls: list[Call] = []
        for record in nodes:
            self._count += 1
            self._spend(record.inputs, record.outputs, record.attributes)
            function = self._functions.get((record.domain, record.op, record.overload))
            attributes, bodies = self._attributes(record.attributes, names, bindings, versions, depth)
            if function is not None:
                given = {
                    name: (value, tuple(pair for pair in bodies if pair[0] == name))
                    for name, value in attributes.items()
                }
                calls.extend(self._written_out(record, function, names, given, versions, depth))
                continue
            place = self._place(record)
            node = Node(
                name=names[record.name] or f"{record.op}#{self._count - 1}",
                op=record.op,
                domain=record.domain,
                inputs=names.all(record.inputs),
                outputs=names.all(record.outputs),
                attributes=attributes,
                path=place.path,
            )
            calls.append(Call(node=node, version=self._version(record, versions), place=place, bodies=bodies))
        return calls

    def _written_out(
        self,
        record: NodeRecord,
        function: FunctionRecord,
        names: ValueNames,
        given: _Bindings,
        versions: Mapping[str, int],
        depth: int,
    ) -> list[Call]:
        """Return the nodes of a function for one call of it."""
        self._check_nesting(depth, f"function {function.name!r}")
        self._spend(function.inputs, function.outputs, function.versions, versions)
        prefix = names.prefixes.new(names[record.name] or record.op, self._count)
        known = dict.fromkeys(function.inputs, "")
        known.update(zip(function.inputs, names.all(record.inputs), strict=False))
        copies: list[tuple[str, str]] = []
        for formal, actual in zip(function.outputs, names.all(record.outputs), strict=False):
            if formal in known:
                copies.append((known[formal], actual))
            elif actual:
                known[formal] = actual
        inner = dict(versions) | dict(function.versions)
        defaults, bodies = self._attributes(function.defaults, names, {}, inner, depth)
        bound = {
            name: (value, tuple(pair for pair in bodies if pair[0] == name)) for name, value in defaults.items()
        } | dict(given)
        calls = self._calls(function.nodes, ValueNames(names.prefixes, known, prefix), bound, inner, depth + 1)
        for value, copy in copies:
            if copy:
                node = Node(name=prefix + "Identity", op="Identity", inputs=(value,), outputs=(copy,))
                calls.append(Call(node=node, version=inner.get(""), place=Place()))
        return calls

    def _attributes(
        self,
        records: Sequence[AttributeRecord],
        names: ValueNames,
        bindings: _Bindings,
        versions: Mapping[str, int],
        depth: int,
    ) -> tuple[dict[str, AttributeValue], tuple[tuple[str, Body], ...]]:
        attributes: dict[str, AttributeValue] = {}
        bodies: list[tuple[str, Body]] = []
        for record in records:
            if record.reference:
                if record.reference in bindings:
                    value, bound = bindings[record.reference]
                    attributes[record.name] = value
                    bodies.extend((record.name, body) for _, body in bound)
                continue
            values = record.value if isinstance(record.value, tuple) else (record.value,)
            graphs = [item for item in values if isinstance(item, GraphRecord)]
            if graphs:
                made = [self.body(graph, names, bindings, versions, depth + 1) for graph in graphs]
                bodies.extend((record.name, body) for body in made)
                items: tuple[AttributeValue, ...] = tuple(body.graph for body in made)
            else:
                items = self._plain(record, values)
            attributes[record.name] = items if isinstance(record.value, tuple) else items[0]
        return attributes, tuple(bodies)

    def _plain(self, record: AttributeRecord, values: Sequence[RawValue]) -> tuple[AttributeValue, ...]:
        """Return the values of an attribute without graphs; the same object at each call of the function around it."""
        found = self._lists.get(id(record))
        if found is None:
            found = tuple(self._value(record, item) for item in values if not isinstance(item, GraphRecord))
            self._lists[id(record)] = found
        return found

    def _value(self, record: AttributeRecord, item: int | float | bytes | TensorRecord | None) -> AttributeValue:
        if isinstance(item, TensorRecord):
            return tensor_ref(self._source, item, item.name or record.name)
        return _text(item) if isinstance(item, bytes) else item

    def _place(self, record: NodeRecord) -> Place:
        found = self._places.get(id(record))
        if found is None:
            found = self._places[id(record)] = place_of(record.name, record.metadata)
        return found

    def _version(self, record: NodeRecord, versions: Mapping[str, int]) -> int | None:
        version = versions.get(record.domain)
        if version is None and not record.domain:
            if self._ir_version < 3:
                return 1  # The files of the first two IR versions know a single operator set.
            raise MalformedFileError(
                f"{self._source.name}: states no version of ONNX's own operators, which {record.op} needs: "
                "export the model again"
            )
        return version


def _value(record: ValueRecord, names: ValueNames) -> GraphValue:
    return GraphValue(name=names[record.name], dtype=dtype_name(record.data_type), shape=record.shape)


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data
