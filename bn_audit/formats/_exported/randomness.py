"""Random calls of an exported program: dropout, and every other operator that draws numbers."""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.formats._exported.document import Reader, finite_number, is_integer
from bn_audit.formats._exported.flow import constant
from bn_audit.formats._exported.graph import Call, Program
from bn_audit.formats._exported.operators import ATTENTIONS, DROPOUTS, RANDOM, RECURRENT, RRELUS
from bn_audit.subject.subject import RandomCall


def random_calls(program: Program, model: str) -> Iterator[RandomCall]:
    """Yield every random call, switched off or not; attention only where it drops."""
    reader = program.reader
    for call in program.calls:
        if call.op in DROPOUTS:
            yield _random(call, model, _dropout(reader, call, "p"))
        elif call.op in ATTENTIONS:
            found = _dropout(reader, call, "dropout_p", always=True)
            if found[0] is not False:
                yield _random(call, model, found)
        elif call.op in RECURRENT:
            found = _dropout(reader, call, "dropout")
            layers = constant(reader, call, "num_layers")
            if found[1] != 0 and not (is_integer(layers) and layers < 2):
                yield _random(call, model, found)
        elif call.op in RRELUS:
            yield _random(call, model, (_flag(reader, call, "training", absent=False), None), is_dropout=False)
        elif call.op in RANDOM:
            yield _random(call, model, (True, None), is_dropout=call.op == "_fused_dropout")


def _dropout(reader: Reader, call: Call, probability: str, *, always: bool = False) -> tuple[bool | None, float | None]:
    """Return whether a dropout is live (None: not constant) and its probability."""
    live = True if always else _flag(reader, call, "train", absent=True)
    given = any(name == probability for name, _ in call.arguments)
    # The schema's default, where there is one, is 0.
    value = finite_number(constant(reader, call, probability)) if given else 0.0
    return (False if value == 0 else live), value


def _flag(reader: Reader, call: Call, name: str, *, absent: bool) -> bool | None:
    """Return a boolean argument; None where it is symbolic, `absent` where it is left out or None."""
    if not any(argument == name for argument, _ in call.arguments):
        return absent
    value = constant(reader, call, name)
    if value is None:
        return absent
    return value if isinstance(value, bool) else None


def _random(call: Call, model: str, found: tuple[bool | None, float | None], *, is_dropout: bool = True) -> RandomCall:
    live, probability = found
    return RandomCall(
        model=model,
        path=call.module[0] if call.module else "",
        node=call.node,
        op=call.target,
        is_dropout=is_dropout,
        probability=probability,
        live=live,
    )
