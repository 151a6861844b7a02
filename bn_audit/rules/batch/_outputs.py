"""Outputs of a graph that depend on more than their own sample, with the cause of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bn_audit.rules._batch_flow import (
    MARK_CODES,
    MARK_MIXES,
    MARK_QUANTISES,
    MIXES,
    UNDECIDED,
    has_companions,
    layer_at,
    layer_code,
    outputs_by_model,
    why_there,
)
from bn_audit.rules._figures import LISTED
from bn_audit.subject.design import Design
from bn_audit.subject.finding import EvidenceValue, Location
from bn_audit.subject.subject import FlowMark, OutputFlow, Subject

NAMED = 3
"""How many outputs a message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependence:
    """One output that depends on something else, and the node to blame.

    Attributes:
        place: The verdict itself, or the mark of another node where that explains more.
        code: The rule that stands for the cause; None where no rule does.
        is_layer: True where the cause is a batch norm using batch statistics, which `code` reports.
    """

    flow: OutputFlow
    place: OutputFlow | FlowMark
    code: str | None
    is_layer: bool

    @property
    def location(self) -> Location:
        """Where a finding about this output points: at the node to blame, for this output."""
        return Location(model=self.flow.model, path=self.place.path, node=self.place.node, tensor=self.flow.output)


def dependent_outputs(subject: Subject, route: str, verdict: str) -> list[Dependence]:
    """Return the outputs of one model with this verdict; none where a sample never has companions."""
    if not has_companions(subject, route):
        return []
    marks = [mark for mark in subject.flow_marks if mark.model == route]
    return [_explained(subject, flow, marks) for flow in subject.batch_flow if _is(flow, route, verdict)]


def _is(flow: OutputFlow, route: str, verdict: str) -> bool:
    return flow.model == route and flow.verdict == verdict


def _explained(subject: Subject, flow: OutputFlow, marks: Sequence[FlowMark]) -> Dependence:
    """Return the cause of a verdict.

    A quantisation that couples the batch is the first to be found where it stands first, and must not hide samples
    that meet behind it; no more must a batch norm that is declared to use the batch.
    """
    layer = layer_at(subject, flow)
    if layer is not None:
        undeclared = _meeting_elsewhere(subject, marks) if flow.verdict == MIXES else None
        if undeclared is not None:
            return Dependence(flow=flow, place=undeclared, code=MARK_CODES[MARK_MIXES], is_layer=False)
        return Dependence(flow=flow, place=flow, code=layer_code(layer), is_layer=True)
    here = [mark.kind for mark in marks if mark.node == flow.node]
    place: OutputFlow | FlowMark = flow
    if MARK_QUANTISES in here and flow.verdict == MIXES:
        quantising = {mark.node for mark in marks if mark.kind == MARK_QUANTISES}
        meeting = next((mark for mark in marks if mark.kind == MARK_MIXES and mark.node not in quantising), None)
        if meeting is not None:
            behind = layer_at(subject, meeting)
            code = layer_code(behind) if behind is not None else MARK_CODES[MARK_MIXES]
            return Dependence(flow=flow, place=meeting, code=code, is_layer=behind is not None)
    kind = next((kind for kind in MARK_CODES if kind in here), None)
    code = MARK_CODES[kind] if kind is not None else MARK_CODES[MARK_MIXES] if flow.verdict == MIXES else None
    return Dependence(flow=flow, place=place, code=code, is_layer=False)


def _meeting_elsewhere(subject: Subject, marks: Sequence[FlowMark]) -> FlowMark | None:
    """Return a node outside of norm layers at which samples meet, where batch statistics are declared for these."""
    if Design.BATCH_STATISTICS not in subject.declared:
        return None
    return next((mark for mark in marks if mark.kind == MARK_MIXES and layer_at(subject, mark) is None), None)


def statement(found: Sequence[Dependence], total: int, verb: tuple[str, str], *, route: str, otherwise: str) -> str:
    """Return a message such as ``output 'y' depends on its place: Add adds ... at 'head'``.

    Args:
        total: Number of outputs of the model.
        verb: What the outputs do, singular and plural.
        otherwise: What the node does, where the proof gives no clause.
    """
    names = ", ".join(f"'{item.flow.output}'" for item in found[:NAMED]) + (", ..." if len(found) > NAMED else "")
    where = f" of '{route}'" if route else ""
    outputs = f"output {names}{where}" if len(found) == 1 else f"{len(found)} of {total} outputs{where} ({names})"
    nodes = len({(item.place.path, item.place.node) for item in found})
    more = f" and {nodes - 1} more node{'' if nodes == 2 else 's'}" if nodes > 1 else ""
    return f"{outputs} {verb[0] if len(found) == 1 else verb[1]}: {why_there(found[0].place, otherwise)}{more}"


def figures(found: Sequence[Dependence], total: int, marks: Sequence[FlowMark] = ()) -> dict[str, EvidenceValue]:
    """Return what stands behind a finding about outputs, with every cause that has a code of its own."""
    first = found[0]
    outputs: list[EvidenceValue] = [
        {"output": item.flow.output, "node": item.place.node, "path": item.place.path, "why": item.place.why}
        for item in found[:LISTED]
    ]
    causes: list[EvidenceValue] = [
        {"code": MARK_CODES[mark.kind], "node": mark.node, "path": mark.path, "why": mark.why}
        for mark in marks[:LISTED]
    ]
    return {
        "dependent": len(found),
        "outputs_of_the_model": total,
        "cause": first.code,
        "outputs": outputs,
        "marked_nodes": causes,
    }


def undecided_outputs(subject: Subject) -> Iterator[str]:
    """Yield for each node that the proof could not follow which outputs are not decided because of it."""
    for route, flows in outputs_by_model(subject, UNDECIDED).items():
        if not has_companions(subject, route):
            continue
        causes: dict[str, list[str]] = {}
        for flow in flows:
            causes.setdefault(why_there(flow, "the flow is not known"), []).append(flow.output)
        where = f" of '{route}'" if route else ""
        for cause, names in causes.items():
            listed = ", ".join(f"'{name}'" for name in names[:NAMED])
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            yield f"batch flow undecided for output{'' if len(names) == 1 else 's'} {listed}{more}{where}: {cause}"
