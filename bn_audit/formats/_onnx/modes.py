"""The mode that an ONNX batch-norm node states, by the rules of its operator set.

Source: onnx/docs/Changelog.md of ONNX 1.23, BatchNormalization 1, 6, 7, 9, 14 and 15. What runtimes make of the
contradictions was measured with ONNX Runtime 1.31.
"""

from __future__ import annotations

from dataclasses import dataclass

from bn_audit.formats._onnx.calls import Call
from bn_audit.subject.norm import Mode, ModeOrigin

FIRST_BY_OUTPUTS = 7
"""The first operator set in which the number of outputs decides; before it the attribute ``is_test`` does."""

FIRST_BY_ATTRIBUTE = 14
"""The first operator set in which the attribute ``training_mode`` decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a node says about its mode.

    Attributes:
        contradiction: What speaks against it, as a clause; None where nothing does.
    """

    mode: Mode
    origin: ModeOrigin
    contradiction: str | None = None


def stated_mode(call: Call, version: int) -> Statement:
    """Return the mode of a batch-norm node of the given operator set."""
    outputs = call.node.outputs
    named = sum(1 for value in outputs if value)
    nameless = len(outputs) - named
    if version >= FIRST_BY_ATTRIBUTE:
        trains = _flag(call, "training_mode")
        stated, expected, origin = f"training_mode {int(trains)}", 3 if trains else 1, ModeOrigin.ONNX_ATTRIBUTE
    elif version >= FIRST_BY_OUTPUTS:
        trains = named > 1
        stated, expected, origin = "the number of outputs decides", 5 if trains else 1, ModeOrigin.ONNX_LEGACY
    else:
        trains = not _flag(call, "is_test")
        stated, expected, origin = f"is_test {int(not trains)}", 5 if trains else 1, ModeOrigin.ONNX_LEGACY
    contradiction = None
    if nameless:
        contradiction = f"{nameless} of {len(outputs)} outputs without a name"
    elif named != expected:
        contradiction = f"{stated}, which takes {expected} output{'s' * (expected != 1)}, beside {named}"
    if contradiction and origin is ModeOrigin.ONNX_LEGACY and version >= FIRST_BY_OUTPUTS and not nameless:
        contradiction = f"{named} outputs, where 1 means inference and 5 mean training"
    return Statement(mode=Mode.TRAIN if trains else Mode.EVAL, origin=origin, contradiction=contradiction)


def _flag(call: Call, name: str) -> bool:
    value = call.node.attributes.get(name)
    return isinstance(value, int) and value != 0
