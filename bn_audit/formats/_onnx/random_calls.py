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
from bn_audit.subject.subject import RandomCall

_DEFAULT_RATIO = 0.5


def random_calls(scope: Scope) -> Iterator[RandomCall]:
    """Yield every random call of a graph and its bodies, switched off or not."""
    for inner in scope.walk():
        for call in inner.body.calls:
            node = call.node
            if node.domain or node.op not in RANDOM:
                continue
            is_dropout = node.op == "Dropout"
            probability, live = _dropout(inner, call) if is_dropout else (None, True)
            yield RandomCall(
                model="",
                path=node.path,
                node=node.name,
                op=node.op,
                is_dropout=is_dropout,
                probability=probability,
                live=live,
            )


def _dropout(scope: Scope, call: Call) -> tuple[float | None, bool | None]:
    """Return the ratio of a dropout and whether it draws; None for what is not constant."""
    version = call.version or 1
    ratio = call.node.attributes.get("ratio", _DEFAULT_RATIO)
    probability = float(ratio) if isinstance(ratio, int | float) else None
    if version < 7:
        live: bool | None = not call.node.attributes.get("is_test")
    elif version < 12:
        live = False
    else:
        probability = _scalar(scope, call, 1, _DEFAULT_RATIO)
        training = _scalar(scope, call, 2, 0.0)
        live = None if training is None else training != 0
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
        return float(tensor.values()[0])
    except ArtifactError:
        return None
