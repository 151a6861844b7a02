"""Where samples meet: runs with two colours, one of the companions and one of the probe.

A place is mixed where, in no way in which the samples may lie in its tensor, a change of the companions leaves the
probe's row alone and a change of the probe leaves the others alone. Elements that answer to both colours were combined
there; rows that only lie elsewhere were moved. Only fingerprints of rows are kept, and the tensors of mixed places
within a budget, so that the memory does not grow with the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from bn_audit.errors import RunError
from bn_audit.runners._torch.arrays import as_bits
from bn_audit.runners._torch.digests import Layout, Rows, rows_of
from bn_audit.runners._torch.keeping import Keeper
from bn_audit.runners._torch.outputs import tensors_in
from bn_audit.runners._torch.watching import Tensors, Watch
from bn_audit.runners._torch.whereabouts import Whereabouts
from bn_audit.subject.observation import Place

if TYPE_CHECKING:
    import torch


WINDOW_BYTES = 192 << 20
"""Memory for the tensors of mixed places that are compared element by element."""

MAX_WINDOWS = 4


@dataclass(frozen=True, slots=True)
class Key:
    """One result of one call: the n-th of this operator (or of the module itself) in this module."""

    path: str
    operator: str
    occurrence: int
    output: str


@dataclass(slots=True)
class Pass:
    """What one run showed, in the order of execution.

    Attributes:
        parents: The results that each one was computed from; of a module's result the operator's.
    """

    rows: dict[Key, Rows] = field(default_factory=dict)
    places: dict[Key, Place] = field(default_factory=dict)
    parents: dict[Key, frozenset[Key]] = field(default_factory=dict)


Visit: TypeAlias = "Callable[[Key, Place, torch.Tensor, frozenset[Key]], None]"
"""Called with a result, its place, its tensor and the results that it was computed from."""

Runner: TypeAlias = Callable[[Visit], None]
"""Runs the model on one of the batches and visits every result."""


def visitor(module: torch.nn.Module, visit: Visit) -> tuple[Whereabouts, Watch]:
    """Return what follows a run and visits the results of its operators and modules.

    Views hold no new values, and ``empty`` none at all.
    """
    import torch

    counts: dict[tuple[str, str], int] = {}
    makers: dict[int, Key] = {}

    def key(path: str, operator: str, output: str) -> Key:
        return Key(path, operator, counts[path, operator], output)

    def left(path: str, _child: torch.nn.Module, output: object) -> None:
        counts[path, ""] = counts.get((path, ""), -1) + 1
        with watch.paused():
            for name, value in tensors_in(output):
                if isinstance(value, torch.Tensor):
                    visit(key(path, "", name), where.place(), value, made_from([value]))

    where = Whereabouts(module, on_leave=left)

    def see(func: Any, inputs: Tensors, outputs: Tensors) -> None:
        operator = str(func)
        if "empty" in operator:
            for tensor in outputs:
                makers.pop(address(tensor), None)
        if "empty" in operator or is_view(func):
            return
        parents = made_from(inputs)
        place = where.place(operator, inputs)
        counts[place.path, operator] = counts.get((place.path, operator), -1) + 1
        for index, tensor in enumerate(outputs):
            result = key(place.path, operator, str(index))
            visit(result, place, tensor, parents)
            makers[address(tensor)] = result

    def made_from(tensors: Tensors) -> frozenset[Key]:
        return frozenset(makers[place] for tensor in tensors if (place := address(tensor)) in makers)

    watch = Watch(see)
    return where, watch


def address(tensor: torch.Tensor) -> int:
    """Return where a tensor's elements lie, the same for all its views; 0 where it has no memory of its own."""
    import torch

    if tensor.is_nested or tensor.layout is not torch.strided:
        return 0
    return tensor.untyped_storage().data_ptr()


def is_view(func: Any) -> bool:
    """Return whether an operator only looks at its input otherwise."""
    returns = func._schema.returns
    return bool(returns) and all(item.alias_info is not None and not item.alias_info.is_write for item in returns)


def record(run: Runner, batch: int, *others: Callable[[Key, Rows, torch.Tensor], None]) -> Pass:
    """Return the fingerprints of one run.

    Args:
        others: See every result with its fingerprints.
    """
    found = Pass()
    latest: tuple[torch.Tensor, int, Rows | None] | None = None

    def visit(key: Key, place: Place, tensor: torch.Tensor, parents: frozenset[Key]) -> None:
        nonlocal latest
        found.parents[key] = parents
        if latest is None or latest[0] is not tensor or latest[1] != tensor._version:  # a module returns what is known
            latest = tensor, tensor._version, rows_of(tensor.detach(), batch)
        rows = latest[2]
        if rows is not None:
            found.rows[key] = rows
            found.places[key] = place
            for other in others:
                other(key, rows, tensor.detach())

    run(visit)
    return found


def mixed_places(base: Pass, companions: Pass, probe: Pass, index: int) -> Iterator[Key]:
    """Yield the places where the samples are no longer apart, in order."""
    for key, rows in base.rows.items():
        others = companions.rows.get(key), probe.rows.get(key)
        if others[0] is None or others[1] is None or {others[0].shape, others[1].shape} != {rows.shape}:
            continue
        if rows.by_layout:
            if not any(is_apart(rows, others[0], others[1], layout, index) for layout in rows.by_layout):
                yield key
        elif rows.whole != others[0].whole and rows.whole != others[1].whole:
            yield key


def leading_to_outputs(base: Pass, mixed: Sequence[Key]) -> set[Key]:
    """Return the mixed places from which an output is reached through mixed places alone; none where none is.

    Scores between all tokens of a batch mix samples as well, and a mask behind them may take them apart again.
    """
    allowed = set(mixed)
    ends = [key for key in base.parents if not key.path and not key.operator]
    if not ends:  # programs have no module that returns: what nothing is computed from is an output, or leads nowhere
        ends = [*base.parents.keys() - set().union(*base.parents.values())]
    pending = [*ends, *(parent for key in ends for parent in base.parents[key])]
    found: set[Key] = set()
    seen: set[Key] = set()
    while pending:
        key = pending.pop()
        if key in seen or (key in base.rows and key not in allowed):
            continue
        seen.add(key)
        if key in allowed:
            found.add(key)
        pending.extend(base.parents.get(key, ()))
    return found


def is_apart(base: Rows, companions: Rows, probe: Rows, layout: Layout, index: int) -> bool:
    """Return whether each sample has a row of its own in this layout."""
    own = base.by_layout[layout]
    under_companions, under_probe = companions.by_layout[layout], probe.by_layout[layout]
    return own[index] == under_companions[index] and all(
        one == other for row, (one, other) in enumerate(zip(own, under_probe, strict=True)) if row != index
    )


def answers(base: Rows | None, companions: Rows, index: int) -> bool:
    """Return whether the probe's row changes with the companions, in whichever layout it lies."""
    if base is None or base.shape != companions.shape:
        return False
    if not base.by_layout:
        return base.whole != companions.whole
    return all(rows[index] != companions.by_layout[layout][index] for layout, rows in base.by_layout.items())


class Window:
    """The tensors of the first places that may be mixed, as they are under either colour.

    They are kept while the two coloured runs are recorded, and compared during one more run of the base, which ends
    with the last of them.
    """

    def __init__(self, base: Pass, index: int) -> None:
        self._base = base
        self._index = index
        self._colours: dict[Key, list[torch.Tensor]] = {}
        self._room = WINDOW_BYTES
        self._keeper = Keeper()

    def companions(self, key: Key, rows: Rows, tensor: torch.Tensor) -> None:
        """See a result of the run with other companions."""
        wanted = key.operator and answers(self._base.rows.get(key), rows, self._index)
        if wanted and (self._room > 0 or not self._colours):
            self._colours[key] = [self._keeper.keep(as_bits(tensor))]
            self._room -= 2 * self._colours[key][0].nbytes

    def probe(self, key: Key, rows: Rows, tensor: torch.Tensor) -> None:
        """See a result of the run with another probe."""
        if key in self._colours and self._base.rows[key].shape == rows.shape:
            self._colours[key].append(self._keeper.keep(as_bits(tensor)))

    @property
    def keys(self) -> set[Key]:
        """The places that it holds."""
        return set(self._colours)

    def overlaps(self, base: Runner) -> set[Key]:
        """Return the places whose elements answer to both colours."""
        both = {key: tensors for key, tensors in self._colours.items() if len(tensors) == 2}
        pending = set(both)
        found: set[Key] = set()

        def visit(key: Key, _place: Place, tensor: torch.Tensor, _parents: frozenset[Key]) -> None:
            if key in pending:
                pending.discard(key)
                bits = as_bits(tensor)
                if bits.shape == both[key][0].shape and bool(((bits != both[key][0]) & (bits != both[key][1])).any()):
                    found.add(key)
                if not pending:
                    raise SeenEnough

        if both:
            try:
                base(visit)
            except (SeenEnough, RunError):  # TorchScript turns whatever ends it into an error of its own
                if pending:
                    raise
        return found


class SeenEnough(BaseException):
    """Ends a run, past any ``except Exception`` of the model."""


def combining_places(
    keys: Sequence[Key], runs: tuple[Runner, Runner, Runner], base: Pass, index: int, batch: int
) -> list[Key]:
    """Return those of the places whose elements answer to both colours, of the first window that holds one."""
    remaining = list(keys)
    for _ in range(MAX_WINDOWS):
        window = Window(Pass(rows={key: base.rows[key] for key in remaining}), index)
        record(runs[1], batch, window.companions)
        record(runs[2], batch, window.probe)
        found = window.overlaps(runs[0])
        if found or not window.keys:
            return [key for key in remaining if key in found]
        remaining = [key for key in remaining if key not in window.keys]
    return []
