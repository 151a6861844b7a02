"""Random calls of an ONNX graph: dropout, and every other operator that draws numbers.

Source: onnx/docs/Changelog.md of ONNX 1.23: Dropout 1, 6, 7, 10, 12, 13, 22; RandomNormal, RandomUniform and their
``Like`` forms, Bernoulli, Multinomial.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.errors import ArtifactError
from bn_audit.formats._onnx.calls import Call
from bn_audit.formats._onnx.evaluation import constant
from bn_audit.formats._onnx.scopes import RANDOM, Scope
from bn_audit.formats._onnx.settings import shortest
from bn_audit.subject.subject import RandomCall

_DEFAULT_RATIO = 0.5

_FUSED_DROPOUTS = {"BitmaskDropout": (1, 2), "BiasDropout": (3, 4), "BitmaskBiasDropout": (3, 4)}
"""Dropouts of ONNX Runtime's training graphs, with the indices of ratio and training mode among their inputs."""


def random_calls(scope: Scope) -> Iterator[RandomCall]:
    """Yield every random call of a graph and its bodies, switched off or not."""
    for inner in scope.walk():
        for call in inner.body.calls:
            node = call.node
            fused = _FUSED_DROPOUTS.get(node.op) if node.domain == "com.microsoft" else None
            if fused is None and (node.domain or node.op not in RANDOM):
                continue
            is_dropout = fused is not None or node.op == "Dropout"
            drawn: tuple[float | None, bool | None] = (None, True)
            if fused is not None:
                drawn = _by_inputs(inner, call, *fused)
            elif is_dropout:
                drawn = _dropout(inner, call)
            yield RandomCall(
                model="",
                path=node.path,
                node=node.name,
                op=node.op,
                is_dropout=is_dropout,
                probability=drawn[0],
                live=drawn[1],
            )


def _dropout(scope: Scope, call: Call) -> tuple[float | None, bool | None]:
    """Return the ratio of a dropout and whether it draws; None for what is not constant."""
    version = call.version or 1
    ratio = call.node.attributes.get("ratio", _DEFAULT_RATIO)
    probability = shortest(float(ratio)) if isinstance(ratio, int | float) else None
    if version < 7:
        live: bool | None = not call.node.attributes.get("is_test")
    elif version < 12:
        live = False
    else:
        return _by_inputs(scope, call, 1, 2)
    return probability, False if probability == 0 else live


def _by_inputs(scope: Scope, call: Call, ratio: int, training: int) -> tuple[float | None, bool | None]:
    """Return the same for a dropout whose ratio and mode are the inputs of these indices."""
    probability = _scalar(scope, call, ratio, _DEFAULT_RATIO)
    switch = _scalar(scope, call, training, 0.0)
    live = None if switch is None else switch != 0
    return probability, False if probability == 0 else live


def _scalar(scope: Scope, call: Call, index: int, default: float) -> float | None:
    """Return an input of one element; None where it is not constant or cannot be read."""
    value = call.node.inputs[index] if index < len(call.node.inputs) else ""
    if not value:
        return default
    tensor = constant(scope, value)
    if tensor is None or tensor.numel != 1:
        return None
    try:
        return shortest(float(tensor.values()[0]))
    except ArtifactError:
        return None
