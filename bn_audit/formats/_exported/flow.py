"""Where the values of an exported program come from: their operations, and the parameters behind them."""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.flow.keepers import BATCH_NORMS, CASTS
from bn_audit.flow.origin import Operation, input_origin
from bn_audit.flow.placement import Along, Folded, Placement, Special
from bn_audit.formats._exported.document import Reader, is_integer
from bn_audit.formats._exported.graph import Call, Program, tensors
from bn_audit.subject.norm import InputOrigin

MAX_HOPS = 4096
"""Cap on the calls between a tensor argument and its buffer: one for each call of a layer, and some views."""

MAX_CASTS = 8
"""Cap on the casts and copies between a layer and the one before it."""

_SAME_TENSOR = CASTS | {"repeat", "expand", "view", "reshape", "_unsafe_view", "copy", "copy_", "add_", "mul_"}
"""Operators behind whose first operand a parameter or buffer is still to be seen."""

_STATISTICS_OUT = {
    "_native_batch_norm_legit_functional": 3,
    "_batch_norm_with_update_functional": 4,
}
"""Functional batch norms that return new running statistics, and the index of the mean among their outputs."""


class Flow:
    """Answers where values come from; what was found once is kept."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._makers: dict[str, tuple[Call, int]] = {
            value: (call, index) for call in program.calls for index, value in enumerate(call.outputs)
        }
        self._producers: dict[str, Operation] | None = None
        self._placements: dict[str, Placement] = {}
        self._names: dict[str, str | None] = dict(program.names)

    def origin(self, value: str) -> InputOrigin:
        """Return what a batch norm over the value would normalise."""
        if self._producers is None:
            self._producers = _producers(self._program)
        return input_origin(
            value,
            self._producers,
            parameters=self._program.names,
            inputs=self._program.inputs,
            placements=self._placements,
        )

    def sample_channels(self, value: str) -> int | None:
        """Return the channels of one sample where samples are folded into the channels of the value."""
        self.origin(value)
        place = self._placements[value]
        channels = place.sample[0] if isinstance(place, Folded) and place.sample else None
        return channels if isinstance(channels, int) else None

    def depends_on_samples(self, value: str) -> bool | None:
        """Return whether samples have a part in a value; None where that is not known."""
        self.origin(value)
        place = self._placements[value]
        if place is Special.FREE:
            return False
        return True if isinstance(place, Along | Folded) else None

    def name(self, value: str | None) -> str | None:
        """Return the name of the parameter or buffer that a value is; None where it is computed."""
        passed: list[str] = []
        while value is not None and value not in self._names and len(passed) < MAX_HOPS:
            passed.append(value)
            self._names[value] = None
            value = self._program.outer[value][0] if value in self._program.outer else self._before(value)
        name = None if value is None else self._names.get(value)
        self._names.update(dict.fromkeys(passed, name))
        return name

    def maker(self, value: str | None) -> Call | None:
        """Return the call that computes a value, casts left out."""
        for _ in range(MAX_CASTS):
            made = self._makers.get(value) if value is not None else None
            if made is None:
                return None
            call = made[0]
            if call.op not in CASTS:
                return call
            value = next(_inputs(self._program.reader, call), None)
        return None

    def _before(self, value: str) -> str | None:
        """Return the value that this one is another view or a later state of."""
        made = self._makers.get(value)
        if made is None:
            return None
        call, index = made
        if call.op in _SAME_TENSOR:
            return next(_inputs(self._program.reader, call), None)
        mean = _STATISTICS_OUT.get(call.op)
        if mean is None or index not in (mean, mean + 1):
            return None
        return tensor_argument(self._program.reader, call, "running_mean" if index == mean else "running_var")


def tensor_argument(reader: Reader, call: Call, name: str) -> str | None:
    """Return the value that a call takes under a name; None where it takes none."""
    for argument, value in call.arguments:
        if argument == name:
            return next(tensors(reader, [value], call.scope), None)
    return None


class Symbolic:
    """Stands for an argument whose value is computed at each call."""


SYMBOLIC = Symbolic()


def constant(reader: Reader, call: Call, name: str) -> object:
    """Return a constant argument: a boolean, number or string, None for none, `SYMBOLIC` for everything else."""
    for argument, value in call.arguments:
        if argument == name:
            kind, content = reader.choice(value, "an argument")
            if kind in ("as_bool", "as_int", "as_float", "as_string"):
                return content
            if kind in ("as_sym_int", "as_sym_float", "as_sym_bool") and isinstance(content, dict):
                fixed = [content.get(key) for key in ("as_int", "as_float", "as_bool")]
                return next((item for item in fixed if item is not None), SYMBOLIC)
            return None if kind == "as_none" else SYMBOLIC
    return None


def _inputs(reader: Reader, call: Call) -> Iterator[str]:
    return tensors(reader, [value for _, value in call.arguments], call.scope)


def _producers(program: Program) -> dict[str, Operation]:
    reader = program.reader
    found: dict[str, Operation] = {}
    for value in (*program.names, *program.inputs):
        found[value] = Operation(op="placeholder", inputs=(), shape=program.shape(value))
    for inside, (outside, same) in program.outer.items():
        if same:
            found[inside] = Operation(op="alias", inputs=(outside,), shape=program.shape(inside))
    for call in program.calls:
        inputs = tuple(_inputs(reader, call))
        integers = tuple(_integers(reader, call))
        # The further outputs of a batch norm are statistics, without an axis for the samples.
        outputs = call.outputs[:1] if call.op in BATCH_NORMS else call.outputs
        for value in outputs:
            returned = program.results.get(value)
            if returned is None:
                found[value] = Operation(op=call.op, inputs=inputs, integers=integers, shape=program.shape(value))
            else:
                found[value] = Operation(op="where", inputs=returned, shape=program.shape(value))
    return found


def _integers(reader: Reader, call: Call) -> Iterator[int | None]:
    for _, argument in call.arguments:
        kind, value = reader.choice(argument, "an argument")
        if kind == "as_int":
            yield value if is_integer(value) else None
        elif kind == "as_ints":
            for item in reader.sequence(value, "integers"):
                yield item if is_integer(item) else None
        elif kind == "as_sym_int":
            yield _symbolic(value)
        elif kind == "as_sym_ints":
            for item in reader.sequence(value, "integers"):
                yield _symbolic(item)


def _symbolic(value: object) -> int | None:
    number = value.get("as_int") if isinstance(value, dict) else None
    return number if is_integer(number) else None
