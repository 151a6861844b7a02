"""An exported program as a `Graph` of the dialect ``aten``, in which no operator changes a value in place.

Every argument of an operator is an attribute by its name in the schema, by its number for higher-order operators,
which name none. Computed sizes are values like tensors, and the operators on them are nodes.

Source: torch 2.13 ``_export/serde/schema.py`` (Graph, Node, Argument, GraphSignature) and ``serialize.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bn_audit.errors import LimitExceededError
from bn_audit.formats._exported.document import Json, Reader, encodable, is_integer
from bn_audit.formats._exported.graph import operator_of
from bn_audit.formats._exported.memory import memory_order
from bn_audit.formats._exported.modules import ModuleStacks
from bn_audit.formats._exported.mutation import without_mutation
from bn_audit.formats._exported.symbols import plain_size
from bn_audit.formats._exported.tensors import dtype_name
from bn_audit.subject.graph import AttributeValue, Graph, GraphValue, InputRef, Node
from bn_audit.subject.tensor import TensorRef

MAX_DEPTH = 24
"""Graphs inside one another."""

_VALUES = frozenset(("as_tensor", "as_token", "as_sym_int", "as_sym_float", "as_sym_bool"))
_LISTS_OF_VALUES = {
    "as_tensors": "as_tensor",
    "as_sym_ints": "as_sym_int",
    "as_sym_floats": "as_sym_float",
    "as_sym_bools": "as_sym_bool",
}
_LISTS = {
    "as_ints": "as_int",
    "as_floats": "as_float",
    "as_bools": "as_bool",
    "as_strings": "as_string",
    "as_nested_tensors": "as_tensors",
    "as_int_lists": "as_ints",
    "as_float_lists": "as_floats",
}
_IMMATERIAL = frozenset(("as_none", "as_device", "as_layout", "as_memory_format", "as_complex"))
_TYPED = ("aten.index", "aten._unsafe_index", "aten.type_as", "aten.scaled_dot_product", "aten._scaled_dot_product")
"""Operators that do different things with truth values: their nodes state ``input_dtypes``."""

_SPECIAL_NUMBERS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


def translate(reader: Reader, document: Json, tensors: Mapping[str, TensorRef]) -> Graph:
    """Return the program of a JSON document.

    Args:
        tensors: Parameters, buffers and constants by their names in the program.

    Raises:
        MalformedFileError: the document has another structure.
        LimitExceededError: graphs lie too deep inside one another.
    """
    module = reader.mapping(document.get("graph_module"), "graph_module")
    signature = _Signature.read(reader, reader.mapping(module.get("signature"), "signature"))
    graph = reader.mapping(module.get("graph"), "graph")
    body = _Translation(reader).body(graph, "", 0)
    given = set(signature.inputs)
    named = (value.name for value in body.returned)
    renamed = dict(zip(named, (value.name for value in body.graph.outputs), strict=True))
    by_name = {value.name: value for value in body.graph.outputs}
    results = [by_name[renamed[name]] for name in dict.fromkeys(signature.outputs) if name in renamed]
    return Graph(
        dialect="aten",
        versions=_versions(document),
        inputs=tuple(value for value in body.graph.inputs if value.name in given),
        outputs=tuple(results),
        constants={value: tensors[name] for value, name in signature.constants.items() if name in tensors},
        nodes=body.graph.nodes,
    )


def _versions(document: Json) -> dict[str, int]:
    found = document.get("opset_version")
    pairs = found.items() if isinstance(found, dict) else ()
    return {encodable(name): version for name, version in pairs if is_integer(version)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signature:
    """What the values at the edge of a program are.

    Attributes:
        inputs: Values given at each call.
        outputs: Values returned to the caller; new states of buffers are no outputs.
        constants: Names of parameters, buffers and constants by value.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, str]

    @classmethod
    def read(cls, reader: Reader, signature: Json) -> _Signature:
        if "input_specs" not in signature:
            return cls._old(reader, signature)
        inputs: list[str] = []
        constants: dict[str, str] = {}
        for item in reader.sequence(signature.get("input_specs"), "input_specs"):
            kind, content = reader.choice(item, "an input_spec")
            spec = reader.mapping(content, "an input_spec")
            name = spec.get(f"{kind}_name")
            if kind == "user_input":
                inputs.extend(_names(reader, [spec.get("arg")]))
            elif isinstance(name, str):
                constants[reader.named(spec.get("arg"), "an input_spec")] = encodable(name)
        outputs: list[str] = []
        for item in reader.sequence(signature.get("output_specs"), "output_specs"):
            kind, content = reader.choice(item, "an output_spec")
            if kind in ("user_output", "loss_output"):
                outputs.extend(_tensor_names(reader, reader.mapping(content, "an output_spec").get("arg")))
        return cls(inputs=tuple(inputs), outputs=tuple(outputs), constants=constants)

    @classmethod
    def _old(cls, reader: Reader, signature: Json) -> _Signature:
        constants = {
            value: reader.text(name, key)
            for key in ("inputs_to_parameters", "inputs_to_buffers")
            for value, name in reader.mapping(signature.get(key), key).items()
        }
        named = [
            tuple(reader.text(name, key) for name in reader.sequence(signature.get(key), key))
            for key in ("user_inputs", "user_outputs")
        ]
        return cls(inputs=named[0], outputs=named[1], constants=constants)


def _tensor_names(reader: Reader, argument: object) -> Iterator[str]:
    kind, value = reader.choice(argument, "an output_spec")
    # The schema of torch 2.2 writes the name itself.
    if kind == "as_tensor" or (kind == "name" and isinstance(value, str)):
        yield reader.named(value, "an output")


@dataclass(frozen=True, slots=True)
class _Body:
    """A translated graph, and its outputs as the file names them."""

    graph: Graph
    returned: tuple[GraphValue, ...]


@dataclass(slots=True)
class _Translation:
    """Translates the graphs of one program."""

    reader: Reader
    modules: ModuleStacks = field(default_factory=ModuleStacks)

    def body(self, graph: Json, name: str, depth: int) -> _Body:
        if depth > MAX_DEPTH:
            raise LimitExceededError(f"{self.reader.name}: graphs lie more than {MAX_DEPTH} deep inside one another")
        reader = self.reader
        metadata = graph.get("tensor_values")
        known = reader.mapping({} if metadata is None else metadata, "tensor_values")
        inputs = self._values(reader.sequence(graph.get("inputs"), "inputs of a graph"), known)
        returned = self._values(reader.sequence(graph.get("outputs"), "outputs of a graph"), known)
        nodes = [self._node(item, known, depth) for item in reader.sequence(graph.get("nodes"), "nodes")]
        changed, results = without_mutation(nodes, [value.name for value in returned], known)
        outputs = tuple(
            GraphValue(name=result, dtype=value.dtype, shape=value.shape)
            for result, value in zip(results, returned, strict=True)
        )
        return _Body(Graph(dialect="aten", name=name, inputs=inputs, outputs=outputs, nodes=changed), returned)

    def _values(self, arguments: list[object], metadata: Json) -> tuple[GraphValue, ...]:
        found = []
        for argument in arguments:
            kind, _ = self.reader.choice(argument, "an argument")
            # A constant among the inputs keeps the places of the others.
            for name in _names(self.reader, [argument]) if _is_value(kind) else [""]:
                found.append(self._value(name, kind, metadata.get(name)))
        return tuple(found)

    def _value(self, name: str, kind: str, metadata: object) -> GraphValue:
        if isinstance(metadata, dict) and "meta" in metadata:
            metadata = metadata["meta"]
        if not isinstance(metadata, dict):
            is_size = kind in ("as_sym_int", "as_sym_ints")
            return GraphValue(name=name, dtype="int64" if is_size else None, shape=() if is_size else None)
        sizes = metadata.get("sizes")
        shape = tuple(map(plain_size, self.reader.sizes(sizes, "sizes"))) if isinstance(sizes, list) else None
        return GraphValue(name=name, dtype=dtype_name(metadata.get("dtype")), shape=shape)

    def _node(self, item: object, known: Json, depth: int) -> Node:
        reader = self.reader
        node = reader.mapping(item, "a node")
        target = reader.text(node.get("target"), "target of a node")
        inputs: list[str] = []
        attributes: dict[str, AttributeValue] = {}
        for place, argument in enumerate(reader.sequence(node.get("inputs"), "inputs of a node")):
            named = reader.mapping(argument, "an argument")
            name = reader.text(named.get("name"), "name of an argument") or str(place)
            attributes[name] = self._argument(named.get("arg"), inputs, depth)
        op = operator_of(target)[1]
        if op.startswith(_TYPED):
            attributes["input_dtypes"] = tuple(self._dtype(known.get(name)) for name in inputs)
        if op.startswith("aten.as_strided") and inputs:
            attributes["input_order"] = memory_order(known.get(inputs[0]))
        outputs = tuple(_names(reader, reader.sequence(node.get("outputs"), "outputs of a node")))
        metadata = node.get("metadata")
        stack = metadata.get("nn_module_stack") if isinstance(metadata, dict) else None
        module = self.modules.innermost(stack) if isinstance(stack, str) else None
        called = node.get("name")
        return Node(
            name=encodable(called) if isinstance(called, str) else next((out for out in outputs if out), target),
            op=op,
            inputs=tuple(inputs),
            outputs=outputs,
            attributes=attributes,
            path=module[0] if module else "",
        )

    def _dtype(self, metadata: object) -> str | None:
        inner = metadata.get("meta", metadata) if isinstance(metadata, dict) else None
        return dtype_name(inner.get("dtype")) if isinstance(inner, dict) else None

    def _argument(self, argument: object, inputs: list[str], depth: int) -> AttributeValue:
        """Return an argument as an attribute; the values in it are added to the node's inputs."""
        reader = self.reader
        kind, value = reader.choice(argument, "an argument")
        if kind in _VALUES:
            return self._reference(kind, value, inputs)
        if kind in _LISTS_OF_VALUES:
            items = reader.sequence(value, "a list of values")
            return tuple(self._reference(_LISTS_OF_VALUES[kind], item, inputs) for item in items)
        if kind in _LISTS:
            items = reader.sequence(value, "a list")
            return tuple(self._argument({_LISTS[kind]: item}, inputs, depth) for item in items)
        if kind == "as_optional_tensors":
            return tuple(self._argument(item, inputs, depth) for item in reader.sequence(value, "a list of tensors"))
        if kind == "as_optional_tensor":
            return self._argument(value, inputs, depth)
        if kind == "as_graph":
            inner = reader.mapping(value, "a nested graph")
            name = inner.get("name")
            graph = reader.mapping(inner.get("graph"), "a nested graph")
            return self.body(graph, encodable(name) if isinstance(name, str) else "", depth + 1).graph
        if kind == "as_scalar_type":
            return dtype_name(value)
        if kind in _IMMATERIAL:
            return None
        return _scalar(kind, value)

    def _reference(self, kind: str, value: object, inputs: list[str]) -> AttributeValue:
        """Return a value among the inputs; the number where a symbolic argument is one."""
        if kind.startswith("as_sym") and isinstance(value, dict) and value.get("as_name") is None:
            number = next((value[key] for key in ("as_int", "as_float", "as_bool") if value.get(key) is not None), None)
            return number if isinstance(number, bool | int | float) else None
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        inputs.append(_name(self.reader, kind, value))
        return InputRef(len(inputs) - 1)


def _is_value(kind: str) -> bool:
    return kind in _VALUES or kind in _LISTS_OF_VALUES or kind in ("as_optional_tensor", "as_optional_tensors")


def _scalar(kind: str, value: object) -> AttributeValue:
    if kind == "as_float" and isinstance(value, str):
        return _SPECIAL_NUMBERS.get(value)
    if isinstance(value, str):
        return encodable(value)
    return value if isinstance(value, bool | int | float) else None


def _name(reader: Reader, kind: str, value: object) -> str:
    if kind.startswith("as_sym") and isinstance(value, dict):
        return reader.text(value.get("as_name"), "a computed number")
    return reader.named(value, "a tensor")


def _names(reader: Reader, arguments: list[object]) -> Iterator[str]:
    """Yield the values of a list of unions, nested lists flattened; ``""`` for what is none."""
    pending = list(reversed(arguments))
    while pending:
        kind, value = reader.choice(pending.pop(), "an argument")
        if kind in _VALUES:
            computed = not isinstance(value, dict) or value.get("as_name") is not None
            fixed = isinstance(value, int) or (kind.startswith("as_sym") and not computed)
            yield "" if fixed else _name(reader, kind, value)
        elif kind in _LISTS_OF_VALUES or kind == "as_nested_tensors":
            inner = _LISTS_OF_VALUES.get(kind, "as_tensors")
            pending.extend({inner: item} for item in reversed(reader.sequence(value, "a list of values")))
        elif kind == "as_optional_tensors":
            pending.extend(reversed(reader.sequence(value, "a list of tensors")))
        elif kind == "as_optional_tensor":
            pending.append(value)
        else:
            yield ""
