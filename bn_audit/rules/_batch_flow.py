"""What the proof of the batch flow says about the models, nodes and layers of a graph."""

from __future__ import annotations

from collections.abc import Iterable

from bn_audit.rules._layers import ONNX_ORIGINS, stores_no_statistics
from bn_audit.subject.finding import Location
from bn_audit.subject.norm import ModeOrigin, NormLayer
from bn_audit.subject.subject import Facts, FlowMark, OutputFlow, Subject

INDEPENDENT, MIXES, POSITION, SIZE, UNDECIDED = "independent", "mixes", "position", "size", "undecided"
"""Verdicts on an output."""

MARK_MIXES, MARK_QUANTISES, MARK_FIXED_BATCH = "mixes", "quantises", "fixed-batch"
"""Kinds of remarkable nodes that are findings of their own."""

MARK_CODES = {MARK_FIXED_BATCH: "BN404", MARK_QUANTISES: "BN405", MARK_MIXES: "BN407"}
"""The rule that reports a node of each kind where nothing else does; the first that fits a node explains it."""

LAYER_CODES = {
    ModeOrigin.MODULE_FLAG: "BN101",
    ModeOrigin.SCRIPTED_FLAG: "BN309",
    ModeOrigin.TRACED_CONSTANT: "BN308",
    ModeOrigin.EXPORTED_ARGUMENT: "BN310",
    ModeOrigin.ONNX_ATTRIBUTE: "BN301",
    ModeOrigin.ONNX_LEGACY: "BN302",
    ModeOrigin.ONNX_COMPUTED: "BN304",
}
"""The rule that reports a batch norm using batch statistics, by where its mode is stated."""


def concerns_graphs(subject: Subject) -> bool:
    """Return whether there is a graph through which samples can be followed."""
    return bool(subject.graphs or subject.batch_flow or subject.flow_marks)


def has_companions(subject: Subject, route: str) -> bool:
    """Return whether a sample can share a batch; False where every input declares a batch of exactly one."""
    sizes = _batch_sizes(subject, route)
    return not sizes or any(size != 1 for size in sizes)


def declares_free_batch(subject: Subject, route: str) -> bool:
    """Return whether some input declares a batch of any size."""
    return any(not isinstance(size, int) for size in _batch_sizes(subject, route))


def declares_fixed_batch(subject: Subject, route: str) -> bool:
    """Return whether every input declares the number of samples, so that no other can be given."""
    sizes = _batch_sizes(subject, route)
    return bool(sizes) and all(isinstance(size, int) for size in sizes)


def _batch_sizes(subject: Subject, route: str) -> list[int | str | None]:
    """Return the first size of every input of a model, its batch axis; empty where no graph or no shape is known."""
    graph = subject.graphs.get(route)
    return [value.shape[0] for value in graph.inputs if value.shape] if graph is not None else []


def outputs_by_model(subject: Subject, *verdicts: str) -> dict[str, list[OutputFlow]]:
    """Return the outputs with one of these verdicts (any without) by the route of their model."""
    groups: dict[str, list[OutputFlow]] = {}
    for flow in subject.batch_flow:
        if not verdicts or flow.verdict in verdicts:
            groups.setdefault(flow.model, []).append(flow)
    return groups


def layer_at(subject: Subject, place: OutputFlow | FlowMark) -> NormLayer | None:
    """Return the batch norm to which a node belongs, if that layer is one that uses the batch's statistics."""
    for norm in subject.norms:
        if norm.model == place.model and norm.kind.is_batch_norm and norm.uses_batch_statistics is True:
            same_node = bool(place.node) and place.node == norm.node
            if same_node or (place.path != "" and place.path == norm.path):
                return norm
    return None


def layer_code(norm: NormLayer) -> str | None:
    """Return the code of the rule that reports a layer which uses the batch's statistics."""
    if norm.mode_origin not in ONNX_ORIGINS and stores_no_statistics(norm):
        return "BN103"
    return LAYER_CODES.get(norm.mode_origin)


def is_acquitted(subject: Subject, norm: NormLayer) -> bool:
    """Return whether the batch flow proves that no samples meet in a layer, although it is in training form.

    So it is with weight standardisation and with an InstanceNorm that was written as a batch norm. The proof holds
    where it decided every output of the model and found no node of this layer remarkable.
    """
    if Facts.BATCH_FLOW not in subject.facts:
        return False
    verdicts = {flow.verdict for flow in subject.batch_flow if flow.model == norm.model}
    if verdicts != {INDEPENDENT}:
        return False
    return not any(
        mark.model == norm.model and (mark.node == norm.node or (mark.path != "" and mark.path == norm.path))
        for mark in subject.flow_marks
        if mark.kind == MARK_MIXES
    )


def place_name(place: OutputFlow | FlowMark) -> str:
    """Return where a node stands, as a message names it: its module where known, else its own name."""
    return f"'{place.path or place.node}'" if place.path or place.node else "an unnamed node"


def why_there(place: OutputFlow | FlowMark, otherwise: str) -> str:
    """Return what a node does and where, as the end of a message."""
    return f"{place.why.strip().rstrip('.') or otherwise} at {place_name(place)}"


def node_location(place: OutputFlow | FlowMark) -> Location:
    """Return where a finding about a node points."""
    return Location(model=place.model, path=place.path, node=place.node)


def node_locations(places: Iterable[OutputFlow | FlowMark]) -> tuple[Location, ...]:
    """Return the different places in their order."""
    return tuple(dict.fromkeys(map(node_location, places)))
