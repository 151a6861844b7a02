"""Nodes that the proof of the batch flow found remarkable, as messages name them."""

from __future__ import annotations

from collections.abc import Sequence

from bn_audit.rules._batch_flow import MARK_MIXES, MARK_QUANTISES, node_locations, why_there
from bn_audit.rules._layers import several
from bn_audit.subject.finding import Location
from bn_audit.subject.subject import FlowMark, Subject


def marked_nodes(subject: Subject, kind: str) -> dict[str, list[FlowMark]]:
    """Return the nodes of one kind by the route of their model, each node once.

    Samples meet in a node that quantises the batch too; it counts as quantising.
    """
    quantising = {(mark.model, mark.node) for mark in subject.flow_marks if mark.kind == MARK_QUANTISES}
    groups: dict[str, dict[tuple[str, str], FlowMark]] = {}
    for mark in subject.flow_marks:
        if mark.kind == kind and not (kind == MARK_MIXES and (mark.model, mark.node) in quantising):
            groups.setdefault(mark.model, {}).setdefault((mark.path, mark.node), mark)
    return {route: list(marks.values()) for route, marks in groups.items()}


def nodes_in(marks: Sequence[FlowMark], route: str) -> str:
    """Return the subject of a message, such as ``2 nodes``."""
    return several(len(marks), "node", route=route)


def shown(marks: Sequence[FlowMark], otherwise: str) -> str:
    """Return what the first node does and where."""
    return why_there(marks[0], otherwise)


def where(marks: Sequence[FlowMark]) -> tuple[Location, ...]:
    """Return where a finding about the nodes points."""
    return node_locations(marks)
