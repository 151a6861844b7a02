"""The batch-flow proof: are the rows of each output independent of companions, position and batch size?

The graph is followed twice, at two batch sizes, without running it: see `cells` for what is followed and `judging` for
the verdicts. What is shown holds for these batch sizes, for the recorded shapes and for finite values.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from bn_audit.flow.aten_operators.table import ATEN
from bn_audit.flow.cells import MAX_BATCH, UndecidableError
from bn_audit.flow.constants import Ledger
from bn_audit.flow.feeding import OPEN_SIZES, Feed, along_the_open_axis, fed, feed_of
from bn_audit.flow.following import Dialect, Run
from bn_audit.flow.judging import QUANTISERS, Judgement, judge, meeting
from bn_audit.flow.onnx_operators.table import ONNX
from bn_audit.flow.values import Lost
from bn_audit.subject.graph import Graph, Node
from bn_audit.subject.subject import FlowMark, OutputFlow

DIALECTS: dict[str, Dialect] = {"aten": ATEN, "onnx": ONNX}

NOWHERE = float("inf")

TIME_LIMIT = 30.0
"""Seconds after which what is not decided stays so; the slowest network measured takes a sixth of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was shown of one graph.

    Attributes:
        outputs: A verdict for each output.
        marks: The nodes found remarkable, whether or not it shows in an output.
        seconds: Time it took.
        relaxed: What hard-coded batch sizes were taken to be open, one clause each.
    """

    outputs: tuple[OutputFlow, ...]
    marks: tuple[FlowMark, ...]
    seconds: float
    relaxed: tuple[str, ...]


def prove(
    graph: Graph,
    *,
    model: str = "",
    batch_sizes: tuple[int, int] = (3, 5),
    time_limit: float = TIME_LIMIT,
    batch_axis: int | None = None,
) -> Proof:
    """Return whether rows of each output depend on other rows, on their position or on the batch size.

    Args:
        model: Route of the model that the graph belongs to, for the verdicts.
        batch_sizes: Two different numbers of samples, from 2 to 12.
        time_limit: Seconds after which the rest is undecided.
        batch_axis: Axis of the samples in every input; None: as the graph declares it, else the first.
    """
    start = time.monotonic()
    dialect = DIALECTS.get(graph.dialect)
    if dialect is None:
        why = f"operators of the dialect {graph.dialect!r} are not followed"
        return _proof(graph, model, {}, Judgement("undecided", None, why), (), start, ())
    with np.errstate(all="ignore"):
        feed = feed_of(graph, batch_axis=batch_axis)
        attempt = _Attempt(dialect, graph, feed, Ledger(), start + time_limit)
        runs = _runs(attempt, batch_sizes)
        if isinstance(runs, str):
            return _proof(graph, model, {}, Judgement("undecided", None, runs), (), start, ())
        judgements = _judgements(runs, batch_sizes)
        if not feed.is_stated:
            runs, judgements = _along_the_better_axis(runs, judgements, batch_sizes)
        marks = _marks(model, runs, judgements)
    relaxed = tuple(f"{node.op} {node.name}: {what}" for node, what in runs.first.replaced.values())
    return _proof(graph, model, judgements, None, marks, start, relaxed)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """How a graph is followed."""

    dialect: Dialect
    graph: Graph
    feed: Feed
    ledger: Ledger
    deadline: float
    sizes: tuple[int, int] = OPEN_SIZES[0]
    relaxing: bool = False

    def run(self, batch_size: int, *, forgiving: bool = False) -> Run:
        run = Run(
            dialect=self.dialect,
            graph=self.graph,
            ledger=self.ledger,
            batch_size=batch_size,
            deadline=self.deadline,
            declared_batch=self.feed.declared,
            relaxing=self.relaxing,
        )
        run.follow(fed(self.feed, batch_size, self.sizes, forgiving=forgiving))
        return run


@dataclass(frozen=True, slots=True)
class _Runs:
    """The runs at both batch sizes, or at the only one that the graph can run at."""

    way: _Attempt
    first: Run
    second: Run | None
    others: dict[int, Run] = field(default_factory=dict)

    def between(self, batch_size: int) -> Run:
        """Return the run at a further batch size, made once."""
        if batch_size not in self.others:
            self.others[batch_size] = self.way.run(batch_size)
        return self.others[batch_size]


def _judgements(runs: _Runs, batch_sizes: tuple[int, int]) -> dict[str, Judgement]:
    return {output.name: _judged(output.name, runs, batch_sizes) for output in runs.way.graph.outputs}


def _along_the_better_axis(
    runs: _Runs, judgements: dict[str, Judgement], batch_sizes: tuple[int, int]
) -> tuple[_Runs, dict[str, Judgement]]:
    """Return the runs along the only open axis, where samples stay apart for longer there than along a fixed first one.

    Steps of time meet in the first layer of a recurrent or attending network, samples of a sound network nowhere.
    """
    feed = along_the_open_axis(runs.way.graph)
    if feed is None or runs.way.feed.declared is None or _first_meeting(runs, judgements) == NOWHERE:
        return runs, judgements
    others = _runs(replace(runs.way, feed=feed, ledger=Ledger(), relaxing=False), batch_sizes)
    if isinstance(others, str):
        return runs, judgements
    along_open = _judgements(others, batch_sizes)
    if _first_meeting(others, along_open) > _first_meeting(runs, judgements):
        return others, along_open
    return runs, judgements


def _first_meeting(runs: _Runs, judgements: dict[str, Judgement]) -> float:
    """Return the position of the first node that decides against an output; before all where one is undecided."""
    places = {node.name: index for index, node in enumerate(runs.way.graph.nodes)}
    found = NOWHERE
    for judgement in judgements.values():
        if judgement.verdict == "undecided":
            return -1
        if judgement.verdict != "independent":
            found = min(found, -1 if judgement.node is None else places.get(judgement.node.name, -1))
    return found


def _judged(name: str, runs: _Runs, batch_sizes: tuple[int, int]) -> Judgement:
    """Return the verdict on one output; one on the batch size holds between any two of three sizes.

    What is followed otherwise because a limit lies between two sizes, such as that on the constants which are
    computed, differs at one of the steps only.
    """
    judgement = judge(name, runs.first, runs.second)
    middle = sum(batch_sizes) // 2
    if judgement.verdict != "size" or runs.second is None or middle in batch_sizes:
        return judgement
    try:
        between = runs.between(middle)
    except UndecidableError:
        return judgement
    if all(judge(name, *pair).verdict == "size" for pair in ((runs.first, between), (between, runs.second))):
        return judgement
    return replace(judgement, verdict="undecided", why=f"{judgement.why}, or seems to")


def _runs(attempt: _Attempt, batch_sizes: tuple[int, int]) -> _Runs | str:
    """Return the runs at both batch sizes, or at the one that the graph can run at; else why there are none."""
    try:
        return _followed(attempt, batch_sizes)
    except UndecidableError as error:
        return str(error)


def _followed(attempt: _Attempt, batch_sizes: tuple[int, int]) -> _Runs:
    fixed = attempt.feed.declared
    can_be_fixed = fixed is not None and 1 < fixed <= MAX_BATCH
    if fixed is not None and can_be_fixed and attempt.dialect.fixed_sizes:
        return _Runs(attempt, attempt.run(fixed), None)
    best, chosen = attempt.run(batch_sizes[0]), attempt
    for tried in _ways(attempt):
        if not _conflicts(best):
            break
        run = tried.run(batch_sizes[0])
        if _conflicts(run) < _conflicts(best):
            best, chosen = run, tried
    if not _conflicts(best):
        return _Runs(chosen, best, chosen.run(batch_sizes[1]))
    if fixed is not None and can_be_fixed:
        return _Runs(attempt, attempt.run(fixed), None)
    return _Runs(chosen, best, None)


def _ways(attempt: _Attempt) -> Iterator[_Attempt]:
    """Yield other ways to follow the graph, the most faithful first."""
    feeds = [attempt.feed]
    loose = feed_of(attempt.graph, named_only=False)
    if loose != attempt.feed and not attempt.feed.is_stated:
        feeds.append(loose)
    sizes = OPEN_SIZES if attempt.feed.has_open_sizes else OPEN_SIZES[:1]
    for size in sizes:
        for feed in feeds:
            for relaxing in (False, True):
                if (size, feed, relaxing) != (attempt.sizes, attempt.feed, attempt.relaxing):
                    yield replace(attempt, sizes=size, feed=feed, relaxing=relaxing)


def _conflicts(run: Run) -> int:
    """Return the number of outputs that could not be computed because something does not fit."""
    return sum(isinstance(value, Lost) and value.conflict for value in run.outputs.values())


def _marks(model: str, runs: _Runs, judgements: dict[str, Judgement]) -> tuple[FlowMark, ...]:
    """Return the nodes where samples meet, also those behind the first, and the other remarkable nodes."""
    found: dict[tuple[str, str], FlowMark] = {}

    def add(kind: str, node: Node, why: str) -> None:
        found.setdefault((kind, node.name), FlowMark(model=model, kind=kind, node=node.name, path=node.path, why=why))

    first = runs.first
    for kind, node, why in first.remarks.values():
        add(kind, node, why)
    if runs.way.feed.declared is None:
        for node, what in first.replaced.values():
            add("fixed-batch", node, what)
    for node, kind, why in _meetings(runs):
        add(kind, node, why)
    for judgement in judgements.values():
        if judgement.node is not None and judgement.verdict in ("mixes", "position", "size"):
            quantises = judgement.verdict == "mixes" and judgement.node.op in QUANTISERS
            add("quantises" if quantises else judgement.verdict, judgement.node, judgement.why)
    return tuple(found.values())


def _meetings(runs: _Runs) -> Iterator[tuple[Node, str, str]]:
    """Yield every node at which samples meet, the kind of meeting and a clause about it."""
    if not runs.first.met:
        return
    try:
        again = runs.way.run(runs.first.batch_size, forgiving=True)
    except UndecidableError:
        return
    for kind, node, why in again.remarks.values():
        quantises = kind == "mixes" and node.op in QUANTISERS
        yield node, "quantises" if quantises else kind, why or meeting(node)


def _proof(
    graph: Graph,
    model: str,
    judgements: dict[str, Judgement],
    otherwise: Judgement | None,
    marks: tuple[FlowMark, ...],
    start: float,
    relaxed: tuple[str, ...],
) -> Proof:
    outputs = []
    for output in graph.outputs:
        judgement = judgements.get(output.name) or otherwise or Judgement("undecided", None, "it was not followed")
        node = judgement.node
        outputs.append(
            OutputFlow(
                model=model,
                output=output.name,
                verdict=judgement.verdict,
                node=node.name if node is not None else None,
                path=node.path if node is not None else "",
                why=judgement.why,
            )
        )
    return Proof(outputs=tuple(outputs), marks=marks, seconds=time.monotonic() - start, relaxed=relaxed)
