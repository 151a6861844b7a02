"""A graph run piece by piece in two colours, so that every value is seen and few are held.

Each piece is a graph of its own, given what earlier pieces made: however many pieces there are, every node runs once
for each colour.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bn_audit.errors import UnsupportedRunError
from bn_audit.runners._onnx.backend import Backend, Forward
from bn_audit.runners._onnx.dependence import Proto, free_names
from bn_audit.runners._onnx.loading import Model
from bn_audit.runners._onnx.localising import Colours, Probe, compare
from bn_audit.subject.run import Array, Batch

PIECE_BYTES = 128 << 20
"""Of the values that one piece makes; three times as much is held while it is compared."""

FIRST_GUESS = 1 << 20
"""Bytes of a value whose shape is not known before anything ran."""


@dataclass(slots=True, kw_only=True)
class Pieces:
    """The work on one graph.

    Attributes:
        sizes: Bytes of the values whose shapes are known beforehand.
        shown: Names of the values to compare.
        is_steady: A loaded piece can be used for all colours.
        seen: Number and bytes of the values so far, for guessing those of others.
    """

    model: Model
    backend: Backend
    seed: int
    sizes: Mapping[str, int]
    shown: set[str]
    is_steady: bool
    limit: int = PIECE_BYTES
    colours: dict[str, Colours] = field(default_factory=dict)
    seen: tuple[int, int] = (1, FIRST_GUESS)

    def compare(self, batches: tuple[Batch, Batch, Batch], probe: Probe) -> dict[str, Colours]:
        """Return the colours of every value.

        Args:
            batches: The batch, the same with other companions, the same with another probe.

        Raises:
            UnsupportedRunError: a value that goes from one piece to the next is no array.
        """
        nodes = list(self.model.proto.graph.node)
        last = {name: place for place, node in enumerate(nodes) for name in free_names(node)}
        live: tuple[dict[str, Array], ...] = tuple(dict(batch) for batch in batches)
        begin = 0
        while begin < len(nodes):
            end = self._end(nodes, begin)
            made = [name for node in nodes[begin:end] for name in node.output if name]
            later = {name for name in made if last.get(name, -1) >= end}
            start = self._starter(nodes[begin:end], made, later, live[0])
            colours, kept = compare(start, live, probe, later)
            self.seen = (self.seen[0] + len(colours), self.seen[1] + sum(colour.size for colour in colours.values()))
            self.colours |= {name: colour for name, colour in colours.items() if name in self.shown}
            for values, further in zip(live, kept, strict=True):
                values.update(further)
                for name in [name for name in values if last.get(name, -1) < end]:
                    del values[name]
            begin = end
        return self.colours

    def _end(self, nodes: Sequence[Proto], begin: int) -> int:
        """Return how far a piece goes: one node at least, as many as its values have room."""
        count, total = self.seen
        filled = 0
        for place in range(begin, len(nodes)):
            filled += sum(self.sizes.get(name, total // count) for name in nodes[place].output if name)
            if filled > self.limit and place > begin:
                return place
        return len(nodes)

    def _starter(
        self, nodes: Sequence[Proto], made: Sequence[str], later: set[str], values: Mapping[str, Array]
    ) -> Callable[[], Forward]:
        given = [name for name in made if name in self.shown or name in later]
        if not given:
            # Constants that nothing needs any more.
            return lambda: lambda _batch: {}
        piece = self._piece(nodes, given, values)
        started: list[Forward] = []

        def start() -> Forward:
            if not started or not self.is_steady:
                started[:] = [self.backend.start(piece, self.seed)]
            return started[0]

        return start

    def _piece(self, nodes: Sequence[Proto], given: Sequence[str], values: Mapping[str, Array]) -> Model:
        """Return a model of consecutive nodes, whose inputs are the values that they take from before."""
        import onnx

        whole = self.model.proto
        made = {name for node in nodes for name in node.output}
        read = dict.fromkeys(name for node in nodes for name in free_names(node) if name not in made)
        proto = type(whole)(ir_version=max(4, whole.ir_version), opset_import=whole.opset_import)
        proto.graph.name = "piece"
        proto.graph.node.extend(nodes)
        stored = {tensor.name: tensor for tensor in whole.graph.initializer if tensor.name in read}
        sparse = {tensor.values.name: tensor for tensor in whole.graph.sparse_initializer if tensor.values.name in read}
        proto.graph.initializer.extend(stored.values())
        proto.graph.sparse_initializer.extend(sparse.values())
        for name in read:
            if name in stored or name in sparse:
                continue
            if name not in values:
                raise UnsupportedRunError(f"value {name!r} is no array: its graph is run whole")
            kind = onnx.helper.np_dtype_to_tensor_dtype(values[name].dtype)
            proto.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, None))
        proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in given)
        weights = {name: array for name, array in self.model.weights.items() if name in stored}
        return Model(name=self.model.name, proto=proto, weights=weights, folder=self.model.folder)
