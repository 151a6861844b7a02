"""From the colours of values to the nodes and layers where samples meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bn_audit.runners._onnx.batch_norms import BatchNorm, is_batch_norm
from bn_audit.runners._onnx.dependence import Proto, free_names
from bn_audit.runners._onnx.localising import Colours
from bn_audit.runners._onnx.naming import node_names, place
from bn_audit.subject.observation import LayerEffect, Place
from bn_audit.subject.run import Localisation

UNREACHED = Colours(meets=False, moved=False, reached=False, effect=None)
"""Of constants, and of values that were not looked at."""


def node_places(proto: Proto, norms: Sequence[BatchNorm]) -> list[Place]:
    """Return the place of every node of the outer graph."""
    names = node_names(proto.graph)
    paths = {norm.index: norm.path for norm in norms}
    found = []
    for index, node in enumerate(proto.graph.node):
        where = place(node)
        path = paths.get(index, where.path)
        op = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        found.append(Place(path=path, type_name=where.type_name or "", op=op, node=names[index]))
    return found


def localised(proto: Proto, places: Sequence[Place], colours: Mapping[str, Colours]) -> Localisation:
    """Return where samples meet, by the colours of every value."""
    nodes = list(proto.graph.node)
    mixed = {name for name, known in colours.items() if known.moved or known.meets}
    everywhere = [index for index, node in enumerate(nodes) if _is_first(node, colours, meets=True)]
    # Scores between all tokens of a batch mix samples too; a mask behind them takes these apart before any output.
    leading = _makers(nodes, [value.name for value in proto.graph.output], mixed)
    meeting = [index for index in everywhere if index in leading] if leading else everywhere
    # A node that only moves rows does no harm by itself: it counts where samples meet, or rows end up, because of it,
    # and not where they have come back in between, as steps of time and samples that are merged for one product do.
    ends = list(nodes[meeting[0]].input) if meeting else [value.name for value in proto.graph.output]
    behind = _makers(nodes, ends, mixed)
    moving = [
        index
        for index, node in enumerate(nodes)
        if index in behind and (not meeting or index < meeting[0]) and _is_first(node, colours, meets=False)
    ]
    combined = places[meeting[0]] if meeting else None
    first = places[moving[0]] if moving else combined
    return Localisation(
        first=first,
        combined=combined if first is not combined else None,
        profile=_profile(nodes, places, colours),
        overlaps=tuple(places[index] for index in everywhere),
    )


def _is_first(node: Proto, colours: Mapping[str, Colours], *, meets: bool) -> bool:
    """Return whether samples meet (or rows move) in what a node gives, but not in what it takes."""

    def tells(name: str) -> bool:
        known = colours.get(name, UNREACHED)
        return known.meets if meets else known.moved or known.meets

    return any(tells(name) for name in node.output) and not any(tells(name) for name in free_names(node))


def _makers(nodes: Sequence[Proto], names: Sequence[str], among: set[str]) -> set[int]:
    """Return the nodes from which values come without leaving some values."""
    wanted = among.intersection(names)
    found = set()
    for index in range(len(nodes) - 1, -1, -1):
        if wanted.intersection(nodes[index].output):
            found.add(index)
            wanted.update(among.intersection(free_names(nodes[index])))
    return found


def _profile(
    nodes: Sequence[Proto], places: Sequence[Place], colours: Mapping[str, Colours]
) -> tuple[LayerEffect, ...]:
    """Return the effect by layer; of a layer of several nodes that of the last."""
    found: dict[str, LayerEffect] = {}
    for node, where in zip(nodes, places, strict=True):
        known = colours.get(node.output[0], UNREACHED) if node.output else UNREACHED
        if known.effect is None or not known.reached:
            continue
        path = where.path or str(where.node)
        is_norm = is_batch_norm(node) or (path in found and found[path].is_norm)
        found[path] = LayerEffect(
            path=path, effect=known.effect, type_name=where.type_name or where.op, is_norm=is_norm
        )
    return tuple(found.values())
