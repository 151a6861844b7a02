"""The graph of an exported program as a flat list of operator calls, nested graphs included.

Values of a nested graph get a prefix, so that names are unique. What a higher-order operator passes into its graphs
is known by position; `Program.outer` leads from the value inside to the value outside.

Source: torch 2.13 ``_export/serde/schema.py`` (Graph, Node, GraphSignature) and ``serialize.py``; schema version 1 for
torch 2.1, whose signature and tensor metadata differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from bn_audit.formats._exported.document import Json, Reader, encodable
from bn_audit.formats._exported.modules import ModuleStacks

TRANSPARENT = frozenset(
    (
        *("cond", "wrap", "wrap_with_set_grad_enabled", "wrap_with_autocast", "hints_wrapper", "strict_mode"),
        *("tag_activation_checkpoint", "wrap_activation_checkpoint", "invoke_subgraph"),
    )
)
"""Higher-order operators whose graphs see the very values that are passed in; map, scan and loops see other ones."""

_OPERATOR = re.compile(r"^(?:torch\.ops\.)?(\w+)\.(\w+)(?:\.(\w+))?$")
_PLAIN_NAMESPACES = ("aten", "prims", "prim", "quantized_decomposed", "higher_order")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One operator call.

    Attributes:
        op: The operator without namespace and overload where it is one of torch's, else as ``namespace::name``.
        target: The operator as it is written, without ``torch.ops.``.
        node: Name of the call within its graph.
        scope: Prefix of the values of its graph.
        arguments: Name and union of each argument, in order.
        outputs: Its tensor outputs, with the prefix.
        module: Path and type of the module that makes the call; None where not recorded.
    """

    op: str
    target: str
    node: str
    scope: str
    arguments: tuple[tuple[str, object], ...]
    outputs: tuple[str, ...]
    module: tuple[str, str] | None


@dataclass(slots=True, kw_only=True)
class Program:
    """One exported program, flat.

    Attributes:
        names: Name of the parameter, buffer or constant behind each graph input.
        inputs: Values given at each call.
        mutated: Names of the buffers that the signature says are written.
        outer: For each input of a nested graph the value passed in, and whether it is that very value.
        results: For each output of a transparent higher-order operator the values its graphs return.
        metadata: Tensor metadata by value.
    """

    reader: Reader
    calls: list[Call] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    inputs: set[str] = field(default_factory=set)
    mutated: set[str] = field(default_factory=set)
    outer: dict[str, tuple[str, bool]] = field(default_factory=dict)
    results: dict[str, tuple[str, ...]] = field(default_factory=dict)
    metadata: dict[str, object] = field(default_factory=dict)
    modules: ModuleStacks = field(default_factory=ModuleStacks)

    def shape(self, value: str) -> tuple[int | str | None, ...] | None:
        """Return the recorded shape of a value."""
        found = self.metadata.get(value)
        if isinstance(found, dict) and "meta" in found:
            found = found["meta"]
        sizes = found.get("sizes") if isinstance(found, dict) else None
        return self.reader.sizes(sizes, "sizes") if isinstance(sizes, list) else None


def read_program(reader: Reader, document: Json) -> Program:
    """Return the program that a JSON document describes.

    Raises:
        MalformedFileError: it has another structure.
    """
    module = reader.mapping(document.get("graph_module"), "graph_module")
    program = Program(reader=reader)
    _read_signature(program, reader.mapping(module.get("signature"), "signature"))
    pending = [_Level(program, reader.mapping(module.get("graph"), "graph"), "")]
    scopes = 0
    while pending:
        level = pending[-1]
        for call, graphs in level.calls:
            program.calls.append(call)
            nested = []
            for graph in graphs:
                scopes += 1
                nested.append(_Level(program, graph, f"{scopes}/"))
            if nested:
                _link(program, call, nested)
                pending.extend(reversed(nested))
                break
        else:
            pending.pop()
    return program


class _Level:
    """A graph whose calls are being read."""

    def __init__(self, program: Program, graph: Json, scope: str) -> None:
        self.graph = graph
        self.scope = scope
        self.calls = _calls(program, graph, scope)
        values = graph.get("tensor_values")
        for name, value in program.reader.mapping({} if values is None else values, "tensor_values").items():
            program.metadata[scope + name] = value


def _calls(program: Program, graph: Json, scope: str) -> Iterator[tuple[Call, list[Json]]]:
    reader = program.reader
    for item in reader.sequence(graph.get("nodes"), "nodes"):
        node = reader.mapping(item, "a node")
        arguments = []
        graphs = []
        for argument in reader.sequence(node.get("inputs"), "inputs of a node"):
            named = reader.mapping(argument, "an argument")
            value = reader.mapping(named.get("arg"), "an argument")
            arguments.append((reader.text(named.get("name"), "name of an argument"), value))
            if value.get("as_graph") is not None:
                inner = reader.mapping(value["as_graph"], "a nested graph")
                graphs.append(reader.mapping(inner.get("graph"), "a nested graph"))
        target = reader.text(node.get("target"), "target of a node")
        outputs = tuple(tensors(reader, reader.sequence(node.get("outputs"), "outputs of a node"), scope))
        metadata = node.get("metadata")
        stack = metadata.get("nn_module_stack") if isinstance(metadata, dict) else None
        name = node.get("name")
        op, shown = operator_of(target)
        call = Call(
            op=op,
            target=shown,
            node=encodable(name) if isinstance(name, str) else (outputs[0].removeprefix(scope) if outputs else target),
            scope=scope,
            arguments=tuple(arguments),
            outputs=outputs,
            module=program.modules.innermost(stack) if isinstance(stack, str) else None,
        )
        yield call, graphs


def operator_of(target: str) -> tuple[str, str]:
    """Return an operator as `Call.op` and as `Call.target` have it."""
    match = _OPERATOR.match(target)
    if match is None:
        return target, target
    namespace, name, overload = match.groups()
    shown = ".".join(part for part in (namespace, name, overload) if part)
    return (name if namespace in _PLAIN_NAMESPACES else f"{namespace}::{name}"), shown


def tensors(reader: Reader, arguments: list[object], scope: str) -> Iterator[str]:
    """Yield the tensors of a list of unions, nested lists flattened."""
    pending = list(reversed(arguments))
    while pending:
        kind, value = reader.choice(pending.pop(), "an argument")
        if kind in ("as_tensor", "as_token"):
            yield scope + reader.named(value, "a tensor")
        elif kind == "as_tensors":
            for item in reader.sequence(value, "a list of tensors"):
                yield scope + reader.named(item, "a tensor")
        elif kind == "as_optional_tensors":
            pending.extend(reversed(reader.sequence(value, "a list of tensors")))
        elif kind == "as_optional_tensor":
            pending.append(value)
        elif kind == "as_nested_tensors":
            inner = reader.sequence(value, "a list of tensors")
            pending.extend({"as_tensors": item} for item in reversed(inner))


def _link(program: Program, call: Call, nested: list[_Level]) -> None:
    """Connect the inputs and outputs of nested graphs with the values around them."""
    reader = program.reader
    last_graph = max(index for index, (_, value) in enumerate(call.arguments) if _is_graph(value))
    following = [value for _, value in call.arguments[last_graph + 1 :]]
    passed = list(tensors(reader, following, call.scope))
    for level in nested:
        inner = list(tensors(reader, reader.sequence(level.graph.get("inputs"), "inputs of a graph"), level.scope))
        if len(inner) == len(passed):
            for inside, outside in zip(inner, passed, strict=True):
                program.outer[inside] = (outside, call.op in TRANSPARENT)
    if call.op not in TRANSPARENT:
        return
    returned = [
        list(tensors(reader, reader.sequence(level.graph.get("outputs"), "outputs of a graph"), level.scope))
        for level in nested
    ]
    if all(len(values) == len(call.outputs) for values in returned):
        program.results.update(zip(call.outputs, zip(*returned, strict=True), strict=True))


def _is_graph(value: object) -> bool:
    return isinstance(value, dict) and value.get("as_graph") is not None


def _read_signature(program: Program, signature: Json) -> None:
    reader = program.reader
    if "input_specs" not in signature:
        for key in ("inputs_to_parameters", "inputs_to_buffers"):
            for value, name in reader.mapping(signature.get(key), key).items():
                program.names[value] = reader.text(name, key)
        user_inputs = reader.sequence(signature.get("user_inputs"), "user_inputs")
        program.inputs.update(reader.text(name, "user_inputs") for name in user_inputs)
        mutated = reader.mapping(signature.get("buffers_to_mutate") or {}, "buffers_to_mutate")
        program.mutated.update(reader.text(name, "buffers_to_mutate") for name in mutated.values())
        return
    for item in reader.sequence(signature.get("input_specs"), "input_specs"):
        kind, content = reader.choice(item, "an input_spec")
        spec = reader.mapping(content, "an input_spec")
        if kind == "user_input":
            program.inputs.update(tensors(reader, [spec.get("arg")], ""))
        elif kind in _SPEC_NAMES:
            name = reader.text(spec.get(_SPEC_NAMES[kind]), _SPEC_NAMES[kind])
            program.names[reader.named(spec.get("arg"), "an input_spec")] = name
    for item in reader.sequence(signature.get("output_specs") or [], "output_specs"):
        kind, content = reader.choice(item, "an output_spec")
        if kind == "buffer_mutation":
            spec = reader.mapping(content, "an output_spec")
            program.mutated.add(reader.text(spec.get("buffer_name"), "buffer_name"))


_SPEC_NAMES = {
    "parameter": "parameter_name",
    "buffer": "buffer_name",
    "tensor_constant": "tensor_constant_name",
}
