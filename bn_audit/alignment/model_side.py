"""One model of a comparison: its norm layers, its convolutions and linear layers, and the names of its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bn_audit.alignment.keys import Side, Spec
from bn_audit.subject.graph import Graph, Node
from bn_audit.subject.norm import NormLayer
from bn_audit.subject.subject import Form, Model, Subject
from bn_audit.subject.tensor import TensorRef
from bn_audit.subject.weighted import WeightedLayer

_CONSTANT_PREFIX = "CONSTANTS."
_COPIES = frozenset(("Identity", "Cast"))
_MAX_HOPS = 16
_CONVOLUTIONS = {"Conv": False, "ConvTranspose": True}
_WEIGHTS = {"weight": "bias", "in_proj_weight": "in_proj_bias"}
"""Last parts of the names of weights, with those of their biases; attention has one for query, key and value."""

_AFFINE_ROLES = {"weight": ("weight", "gamma", "gain"), "bias": ("bias", "beta")}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelSide:
    """One model.

    Attributes:
        complete: The names are those of all parameters and buffers of the model.
        tensors: Every tensor by name; of a graph those whose names mean something.
        weighted: Every convolution and linear layer with a stored weight.
        loose: Of a graph: tensors of several dimensions that no convolution or linear layer uses.
        turned: Names of matrices that lie the other way round than PyTorch keeps them.
    """

    subject: Subject
    model: Model
    norms: tuple[NormLayer, ...]
    complete: bool
    tensors: Mapping[str, TensorRef]
    weighted: tuple[WeightedLayer, ...]
    loose: tuple[TensorRef, ...] = ()
    turned: frozenset[str] = frozenset()

    @property
    def called(self) -> str:
        """How messages call it."""
        return f"{self.subject.source} ({self.model.route})" if self.model.route else self.subject.source

    def names(self) -> Side:
        """Return the names, to be fitted to those of another model."""
        return Side(
            name=self.called,
            tensors={name: Spec(shape=self._shape(ref), dtype=ref.dtype) for name, ref in self.tensors.items()},
            route=self.model.route,
            roles={ref.name: f"{norm.path}.{role}" for norm in self.norms for role, ref in _named_roles(norm)},
        )

    def with_turned(self, names: Iterable[str]) -> ModelSide:
        """Return the side with these matrices marked as lying the other way round."""
        turned = frozenset(names)
        weighted = tuple(
            replace(layer, transposed=True) if layer.weight.name in turned else layer for layer in self.weighted
        )
        return replace(self, weighted=weighted, turned=turned)

    def _shape(self, ref: TensorRef) -> tuple[int, ...]:
        return ref.shape[::-1] if ref.name in self.turned else ref.shape


def _named_roles(norm: NormLayer) -> Iterator[tuple[str, TensorRef]]:
    """Yield the tensors whose name is the layer's path and a name of their own."""
    for role, ref in norm.tensors.items():
        path, _, leaf = ref.name.rpartition(".")
        if path == norm.path and leaf:
            yield role, ref


def model_side(subject: Subject, model: Model) -> ModelSide:
    """Return what is compared of one model of an artifact."""
    norms = subject.norms_of(model)
    # With a module tree the names of its tensors say more than the operators, which take time to read.
    graph = None if model.modules else subject.graphs.get(model.route)
    own = {ref.name: ref for ref in model.tensors}
    if graph is not None and graph.dialect == "onnx":
        weighted = tuple(_onnx_layers(graph, model.route))
        used = {layer.weight.name for layer in weighted}
        loose = [ref for name, ref in graph.constants.items() if len(ref.shape) > 1 and name not in used]
        named = _named_of_graph(norms, weighted, loose)
        complete = False
    elif model.form is Form.GRAPH and any(name.startswith(_CONSTANT_PREFIX) for name in _names_of(subject, norms, own)):
        weighted = tuple(layer for layer in subject.weighted if layer.model == model.route)
        used = {layer.weight.name for layer in weighted}
        loose = [ref for ref in model.tensors if len(ref.shape) > 1 and ref.name not in used]
        named, complete = {}, False
    else:
        weighted, loose, named, complete = tuple(_named_layers(own, model.route)), [], own, True
    return ModelSide(
        subject=subject,
        model=model,
        norms=norms,
        complete=complete,
        tensors=named,
        weighted=weighted,
        loose=tuple(loose),
    )


def _names_of(subject: Subject, norms: tuple[NormLayer, ...], own: Mapping[str, TensorRef]) -> Iterator[str]:
    yield from (ref.name for norm in norms for ref in norm.tensors.values())
    yield from (layer.weight.name for layer in subject.weighted)
    yield from own


def _named_layers(tensors: Mapping[str, TensorRef], route: str) -> Iterator[WeightedLayer]:
    for name, ref in tensors.items():
        path, _, leaf = name.rpartition(".")
        if leaf in _WEIGHTS and len(ref.shape) > 1:
            bias = tensors.get(f"{path}.{_WEIGHTS[leaf]}" if path else _WEIGHTS[leaf])
            fits = bias is not None and len(bias.shape) == 1
            yield WeightedLayer(model=route, path=path, weight=ref, bias=bias if fits else None)


def _named_of_graph(
    norms: tuple[NormLayer, ...], weighted: tuple[WeightedLayer, ...], loose: list[TensorRef]
) -> dict[str, TensorRef]:
    """Return the tensors of a graph by the names that they have in the module it was exported from."""
    named: dict[str, TensorRef] = {}
    for norm in norms:
        for role, ref in norm.tensors.items():
            if role not in _AFFINE_ROLES or ref.name.endswith(_AFFINE_ROLES[role]):
                named.setdefault(f"{norm.path}.{role}", ref)
    for layer in weighted:
        if layer.path:
            named.setdefault(f"{layer.path}.weight", layer.weight)
            if layer.bias is not None:
                named.setdefault(f"{layer.path}.bias", layer.bias)
    for ref in loose:
        if not any(mark in ref.name for mark in ("::", "/")) and "." in ref.name:
            named.setdefault(ref.name, ref)
    return named


def _onnx_layers(graph: Graph, route: str) -> Iterator[WeightedLayer]:
    makers = {output: node for node in graph.nodes for output in node.outputs}
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for value in node.inputs:
            readers.setdefault(value, []).append(node)
    for node in graph.nodes:
        if node.domain or len(node.inputs) < 2:
            continue
        if node.op in _CONVOLUTIONS:
            bias = node.inputs[2] if len(node.inputs) > 2 else ""
            transposed = _CONVOLUTIONS[node.op]
            group = node.attributes.get("group", 1)
        elif node.op == "Gemm":
            bias = node.inputs[2] if len(node.inputs) > 2 else ""
            transposed, group = not node.attributes.get("transB", 0), 1
        elif node.op == "MatMul":
            bias, transposed, group = _added(node, readers, graph, makers), True, 1
        else:
            continue
        weight = _constant(graph, makers, node.inputs[1])
        if weight is None or len(weight.shape) < 2 or (node.op == "MatMul" and len(weight.shape) != 2):
            continue
        added = _constant(graph, makers, bias)
        yield WeightedLayer(
            model=route,
            path=_path(node, weight, added, readers),
            node=node.name,
            weight=weight,
            bias=added,
            transposed=transposed,
            groups=group if isinstance(group, int) else None,
        )


def _path(node: Node, weight: TensorRef, bias: TensorRef | None, readers: Mapping[str, Sequence[Node]]) -> str:
    """Return the module path by the names of what the node reads where these have one, else by what it records.

    Exporters store equal tensors once: layers that share a weight differ in the name of its copy, or in their bias.
    """
    named = [(node.inputs[1], "weight"), (weight.name, "weight")]
    if bias is not None:
        named.append((bias.name, "bias"))
    own = [(name, leaf) for name, leaf in named if len(readers.get(name, ())) == 1]
    for name, leaf in (*own, (weight.name, "weight")):
        path, _, last = name.rpartition(".")
        if last == leaf and path and "/" not in path and "::" not in path:
            return path
    return node.path


def _constant(graph: Graph, makers: Mapping[str, Node], value: str) -> TensorRef | None:
    for _ in range(_MAX_HOPS):
        if value in graph.constants:
            return graph.constants[value]
        node = makers.get(value)
        if node is None:
            return None
        if node.op == "Constant" and isinstance(node.attributes.get("value"), TensorRef):
            found = node.attributes["value"]
            return found if isinstance(found, TensorRef) else None
        if node.op not in _COPIES or not node.inputs:
            return None
        value = node.inputs[0]
    return None


def _added(node: Node, readers: Mapping[str, list[Node]], graph: Graph, makers: Mapping[str, Node]) -> str:
    """Return the bias that the only reader of a matrix product adds; ``""`` for none."""
    following = readers.get(node.outputs[0], []) if node.outputs else []
    if len(following) != 1 or following[0].op != "Add":
        return ""
    for value in following[0].inputs:
        ref = _constant(graph, makers, value)
        if ref is not None and len(ref.shape) == 1:
            return value
    return ""
