"""Names, settings and neighbours of the layers of an ONNX graph."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping

from bn_audit.formats._onnx.calls import Call
from bn_audit.formats._onnx.scopes import Scope
from bn_audit.recognition.onnx_places import layer_path, role_and_path
from bn_audit.subject.norm import Mode

DEFAULT_EPS = 1e-5
DEFAULT_MOMENTUM = 0.9
MAX_HOPS = 64
"""Cap on the copies and casts between a value and where it comes from."""

_NORM_CLASS = re.compile(r"(?:Batch|Instance)_?Norm|InPlaceABN", re.IGNORECASE)
_LAYERS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul", "ConvInteger", "QLinearConv"))
_COPIES = frozenset(("Identity", "Cast", "CastLike", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "DequantizeLinear"))
"""Operators that leave the numbers what they are, in another shape or precision."""


def shortest(value: float) -> float:
    """Return the shortest decimal number that is stored as this float32: 1e-05 for 9.999999747378752e-06."""
    if not math.isfinite(value) or abs(value) > 1e30:
        return value
    for digits in range(1, 9):
        candidate = float(f"{value:.{digits}g}")
        if struct.pack("<f", candidate) == struct.pack("<f", value):
            return candidate
    return value


def number(call: Call, name: str, default: float | None) -> float | None:
    """Return an attribute that is a number; the schema's default where it is absent."""
    value = call.node.attributes.get(name, default)
    return shortest(float(value)) if isinstance(value, int | float) else default


def momentum_of(call: Call, mode: Mode) -> float | None:
    """Return the weight of the new batch; ONNX stores one minus that."""
    stored = number(call, "momentum", DEFAULT_MOMENTUM)
    if stored is None or not math.isfinite(stored):
        return stored
    momentum = round(1 - stored, 9)
    # PyTorch's exporters write 0 for a momentum of None, the cumulative average, where the layer does not train.
    return None if momentum == 0 and mode is Mode.EVAL else momentum


def origins(scope: Scope, value: str) -> list[str]:
    """Return the names of a value and of those it is a copy of, nearest first."""
    found = [value]
    while len(found) < MAX_HOPS:
        made = scope.maker(value)
        if made is None or made[1].node.domain or made[1].node.op not in _COPIES or not made[1].node.inputs:
            break
        scope, value = made[0], made[1].node.inputs[0]
        found.append(value)
    return found


def parameter_name(scope: Scope, value: str) -> str:
    """Return the nearest name of a value that a framework gives to parameters; its own where there is none.

    Exporters keep one of several equal tensors and leave a copy under each of the other names.
    """
    return next((name for name in origins(scope, value) if role_and_path(name) is not None), value)


def path_of(call: Call, names: Mapping[str, str]) -> str:
    """Return the module path of a layer whose tensors have these names by role."""
    return layer_path(names, call.place, call.node.name)


def type_name_of(call: Call) -> str:
    """Return the class that a layer was exported from, else its operator with domain and operator set."""
    recorded = call.place.type_name
    if recorded is not None and _NORM_CLASS.search(recorded.rpartition(".")[2]):
        return recorded
    version = f"-{call.version}" if call.version is not None else ""
    return f"{call.node.domain or 'ai.onnx'}.{call.node.op}{version}"


def preceding_layer(scope: Scope, value: str) -> str | None:
    """Return the path of the layer that computes a value, copies and casts left out."""
    for _ in range(MAX_HOPS):
        made = scope.maker(value)
        if made is None:
            return None
        scope, call = made
        if call.node.op in _LAYERS and len(call.node.inputs) > 1:
            weight = role_and_path(parameter_name(scope, call.node.inputs[1]))
            return weight[1] if weight is not None else call.place.path or call.node.name
        if call.node.op not in ("Identity", "Cast") or not call.node.inputs:
            return None
        value = call.node.inputs[0]
    return None
