"""Graphs that were exported for one batch size, rewritten in memory so that they take any.

The size stands in the shapes of the inputs and, as a number, in the shapes that operators are told to give. Which of
these numbers is the batch is found by inferring all shapes at two sizes: elements keep their order in a Reshape, so the
batch lies where the samples' stride is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from bn_audit.runners._onnx.dependence import varying_values
from bn_audit.runners._onnx.folding_sizes import SIZED, fold_sizes
from bn_audit.runners._onnx.loading import Model, copied
from bn_audit.runners._onnx.shapes import Shape, batch_place, inferred_shapes, open_declarations
from bn_audit.subject.run import InputSpec

Proto: TypeAlias = Any
"""A message of the onnx package."""

OTHER_SIZE = 1009
"""A batch size for telling its axis: a prime that is no size of a model's own."""

MAX_ROUNDS = 400
"""Each round infers all shapes and frees what lies next behind the last one; attention takes some four per block."""


def stated_batch(specs: Sequence[InputSpec]) -> int | None:
    """Return the one batch size that the inputs declare; None where they leave it open or it is not the first axis."""
    sizes = {spec.shape[spec.batch_axis] for spec in specs if spec.batch_axis is not None}
    axes = {spec.batch_axis for spec in specs if spec.batch_axis is not None}
    size = next(iter(sizes), None)
    return size if len(sizes) == 1 and axes == {0} and isinstance(size, int) else None


def fixed_size(specs: Sequence[InputSpec]) -> int | None:
    """Return the batch size that an input declares, whatever its axis; None where every one leaves it open."""
    sizes = [spec.shape[spec.batch_axis] for spec in specs if spec.batch_axis is not None]
    return next((size for size in sizes if isinstance(size, int)), None)


def freed(model: Model, specs: Sequence[InputSpec], size: int) -> tuple[Model, int] | None:
    """Return the model for any batch size, and how many operators were told so; None where it cannot be found.

    Args:
        specs: Its inputs, with the samples on the first axis.
        size: The batch size that they declare.
    """
    free = model.edited()
    names = [spec.name for spec in specs if spec.batch_axis is not None]
    varying = varying_values(free.proto)
    fold_sizes(free.proto, varying)
    before = inferred_shapes(free.proto, {})
    sized = varying_values(free.proto, by_shape=True)
    work = _Freeing(proto=free.proto, size=size, before=before, varying=varying, sized=sized)
    work.start(names)
    for _ in range(MAX_ROUNDS):
        after = inferred_shapes(free.proto, dict.fromkeys(names, OTHER_SIZE))
        if not work.round(after):
            break
    if work.is_stuck:
        return None
    open_declarations(free.proto, names)
    return free, work.count


@dataclass(slots=True, kw_only=True)
class _Freeing:
    """The work on one graph.

    Attributes:
        before: Shapes at the declared size.
        varying: Values that depend on what the samples are.
        sized: These, and values that depend on how many samples there are.
        count: Operators that were told the batch's size.
        is_stuck: An operator has a shape in which the batch cannot be found.
        done: Names of first outputs of the nodes that were looked at.
    """

    proto: Proto
    size: int
    before: Mapping[str, Shape]
    varying: set[str]
    sized: set[str]
    count: int = 0
    is_stuck: bool = False
    done: set[str] = field(default_factory=set)

    def start(self, names: Sequence[str]) -> None:
        """Let the graph compute its batch size."""
        import onnx

        self._constant("batch::axis", [0])
        shape = onnx.helper.make_node("Shape", [names[0]], ["batch::shape"])
        size = onnx.helper.make_node("Gather", ["batch::shape", "batch::axis"], ["batch::size"], axis=0)
        rest = list(self.proto.graph.node)
        del self.proto.graph.node[:]
        self.proto.graph.node.extend([shape, size, *rest])

    def round(self, after: Mapping[str, Shape]) -> bool:
        """Free every operator whose input is known to have the batch; return whether there was any."""
        nodes: list[Proto] = []
        progress = False
        for node in self.proto.graph.node:
            key = node.output[0] if node.output else ""
            if key not in self.done and not self.is_stuck and node.input:
                known = self._visit(node, after, nodes)
                if known:
                    self.done.add(key)
                    progress = True
            nodes.append(node)
        copies = [copied(node) for node in nodes]
        del self.proto.graph.node[:]
        self.proto.graph.node.extend(copies)
        return progress and not self.is_stuck

    def _visit(self, node: Proto, after: Mapping[str, Shape], added: list[Proto]) -> bool:
        """Free one operator where its turn has come; return whether it had."""
        first = "X" if node.op_type in ("LSTM", "GRU", "RNN") else node.op_type
        if first == "Concat":
            return self._concatenated(node, after, added)
        if first not in (*SIZED, "X"):
            return False
        axis = self._axis(node.input[0], after)
        if axis is None:
            return False
        if first == "X":
            for place in range(5, min(7, len(node.input))):
                self._widened(node, place, 1, added)
            return True
        place = SIZED[first]
        if place >= len(node.input) or not node.input[place] or node.input[place] in self.varying:
            return True
        target = self.before.get(node.output[0])
        stated = self._stated(node.input[place])
        if target is None or stated is None or len(stated) != len(target):
            return True
        self._told(node, place, axis, target, stated, added)
        return True

    def _told(
        self, node: Proto, place: int, axis: int, target: Shape, stated: Sequence[int], added: list[Proto]
    ) -> None:
        """Tell an operator the batch's size in place of the number in the shape that it is to give."""
        source = self.before[node.input[0]]
        where: int | None
        if node.op_type == "Reshape":
            where = batch_place(target, math.prod(source[axis + 1 :]) * (source[axis] // self.size), self.size)
        else:
            where = axis + len(target) - len(source)
        if where is None:
            self.is_stuck = True
            return
        if stated[where] == -1 or (stated[where] == 0 and where == axis) or target[where] % self.size:
            return
        self.count += 1
        name = f"{node.output[0]}::shape"
        if node.op_type == "Reshape" and -1 not in stated and 0 not in stated:
            self._constant(name, [*stated[:where], -1, *stated[where + 1 :]])
        else:
            self._joined(name, stated[:where], target[where] // self.size, stated[where + 1 :], added)
        node.input[place] = name

    def _concatenated(self, node: Proto, after: Mapping[str, Shape], added: list[Proto]) -> bool:
        axes = {self._axis(name, after) for name in node.input if name in self.varying}
        if None in axes or len(axes) != 1 or node.output[0] not in self.before:
            return False
        (axis,) = axes
        along = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        if axis is not None and along % len(self.before[node.output[0]]) != axis:
            for place, name in enumerate(node.input):
                if name not in self.varying:
                    self._widened(node, place, axis, added)
        return True

    def _widened(self, node: Proto, place: int, axis: int, added: list[Proto]) -> None:
        """Repeat a constant input along its axis of samples, which has the declared size."""
        import onnx

        name = node.input[place]
        shape = self.before.get(name, ())
        if not name or name in self.sized or len(shape) <= axis:
            return
        wide = f"{node.output[0]}::input{place}"
        single = self._single(name, axis, wide)
        if single is None:
            # Other constants for other samples: what further samples would get is not known.
            self.is_stuck = True
            return
        self.count += 1
        self._joined(f"{wide}::shape", shape[:axis], 1, shape[axis + 1 :], added)
        added.append(onnx.helper.make_node("Expand", [single, f"{wide}::shape"], [wide]))
        node.input[place] = wide

    def _single(self, name: str, axis: int, wide: str) -> str | None:
        """Return a constant of which another is a repetition along an axis; None where its parts differ."""
        import onnx

        shape = self.before[name]
        if shape[axis] == 1:
            return name
        maker = next((node for node in self.proto.graph.node if name in node.output), None)
        if maker is not None and maker.op_type == "Expand":
            source = self.before.get(maker.input[0])
            own = -1 if source is None else axis - len(shape) + len(source)
            return str(maker.input[0]) if source is not None and (own < 0 or source[own] == 1) else None
        tensor = next((tensor for tensor in self.proto.graph.initializer if tensor.name == name), None)
        if tensor is None or tensor.data_location == 1:
            return None
        array = onnx.numpy_helper.to_array(tensor)
        first = array.take([0], axis)
        if not (array == first).all():
            return None
        self.proto.graph.initializer.append(onnx.numpy_helper.from_array(first, f"{wide}::single"))
        return f"{wide}::single"

    def _joined(self, name: str, before: Sequence[int], times: int, behind: Sequence[int], added: list[Proto]) -> None:
        """Compute a shape with the batch's size, times a number, in it."""
        import onnx

        parts = []
        if before:
            parts.append(self._constant(f"{name}::before", before))
        if times == 1:
            parts.append("batch::size")
        else:
            factor = self._constant(f"{name}::times", [times])
            added.append(onnx.helper.make_node("Mul", ["batch::size", factor], [f"{name}::size"]))
            parts.append(f"{name}::size")
        if behind:
            parts.append(self._constant(f"{name}::behind", behind))
        added.append(onnx.helper.make_node("Concat", parts, [name], axis=0))

    def _constant(self, name: str, values: Sequence[int]) -> str:
        import onnx

        self.proto.graph.initializer.append(onnx.helper.make_tensor(name, 7, [len(values)], values))
        return name

    def _stated(self, name: str) -> list[int] | None:
        """Return a constant list of sizes."""
        import onnx

        for tensor in self.proto.graph.initializer:
            if tensor.name == name:
                return [int(value) for value in onnx.numpy_helper.to_array(tensor).ravel()]
        return None

    def _axis(self, name: str, after: Mapping[str, Shape]) -> int | None:
        """Return the axis in which a value has the batch; None where that is not known yet."""
        if name not in self.varying:
            return None
        small, large = self.before.get(name), after.get(name)
        if small is None or large is None or len(small) != len(large):
            return None
        axes = [axis for axis, size in enumerate(small) if size * OTHER_SIZE == large[axis] * self.size]
        changed = [axis for axis, size in enumerate(small) if size != large[axis]]
        return changed[0] if len(changed) == 1 and changed[0] in axes else None
