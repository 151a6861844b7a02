"""Batch norms that an ONNX graph writes as arithmetic: mean, variance, square root, quotient.

A batch norm without running statistics may be exported so, or be written so by hand. What tells it from layer, group
and instance norm is over which axes it takes the mean: over the samples, and all others but the channels.

Source: Ioffe and Szegedy 2015, algorithm 1; onnx/docs/Operators.md of ONNX 1.23, MeanVarianceNormalization.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bn_audit.errors import ArtifactError
from bn_audit.flow.placement import Along, Special
from bn_audit.formats._onnx.arguments import attribute_integers
from bn_audit.formats._onnx.calls import Call
from bn_audit.formats._onnx.evaluation import constant
from bn_audit.formats._onnx.reading import Reading
from bn_audit.formats._onnx.scopes import Scope
from bn_audit.formats._onnx.settings import parameter_name, path_of, preceding_layer, type_name_of
from bn_audit.formats._onnx.variance import Variance, variance_of
from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin, NormKind, NormLayer
from bn_audit.subject.tensor import TensorRef

_MVN_AXES = (0, 2, 3)
_FIRST_MVN = 9
"""Before this operator set the operator was an experiment with another attribute."""

_CARRIERS = frozenset(("Identity", "Cast", "Reshape", "Unsqueeze", "Expand"))
_MAX_USES = 8
"""Cap on the calls between a square root and the quotient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reduction:
    """A mean that is taken over the samples.

    Attributes:
        channel: The axis that is left.
        channels: Its size; None where not known.
    """

    channel: int
    channels: int | None
    origin: InputOrigin


def decomposed_batch_norms(reading: Reading, scope: Scope) -> Iterator[NormLayer]:
    """Yield one layer for each batch norm that is written as arithmetic in a graph or body."""
    users: dict[str, list[Call]] | None = None
    for call in scope.body.calls:
        if call.node.domain or call.node.op not in ("Sqrt", "Pow") or not call.node.inputs:
            continue
        variance = variance_of(scope, call)
        if variance is None or variance.axes == (-1,):
            continue  # The last axis alone is that of a layer norm.
        reduction = _over_samples(reading, scope, variance.value, variance.axes)
        if reduction is None:
            continue
        if users is None:
            users = _users(scope)
        quotient = _quotient(scope, call, users, inverse=variance.inverse)
        if quotient is not None:
            yield _layer(scope, call, variance, reduction, _affine(scope, quotient, users))


def mean_variance_norm(reading: Reading, scope: Scope, call: Call) -> NormLayer | None:
    """Return the layer of a node that normalises over the samples too, which is what it does unless told otherwise."""
    if (call.version or _FIRST_MVN) < _FIRST_MVN or not call.node.inputs:
        return None
    axes = attribute_integers(call, "axes")
    value = call.node.inputs[0]
    reduction = _over_samples(reading, scope, value, _MVN_AXES if axes is None else axes)
    if reduction is None:
        return None
    return _layer(scope, call, Variance(value=value, axes=axes or _MVN_AXES), reduction, {})


def _layer(scope: Scope, call: Call, variance: Variance, reduction: _Reduction, affine: dict[str, str]) -> NormLayer:
    tensors = {role: tensor for role, value in affine.items() if (tensor := _vector(scope, value)) is not None}
    undecided = reduction.origin is InputOrigin.UNDECIDED
    return NormLayer(
        model="",
        path=path_of(call, {role: parameter_name(scope, value) for role, value in affine.items()}),
        kind=NormKind.BATCH_NORM,
        type_name=type_name_of(call),
        mode=Mode.TRAIN,
        mode_origin=ModeOrigin.ONNX_COMPUTED,
        uses_batch_statistics=True,
        num_features=reduction.channels,
        eps=_scalar(scope, variance.eps),
        weight=tensors.get("weight"),
        bias=tensors.get("bias"),
        input_origin=reduction.origin,
        confidence=Confidence.MEDIUM if undecided else Confidence.HIGH,
        preceding=preceding_layer(scope, variance.value),
        node=call.node.name,
    )


def _over_samples(reading: Reading, scope: Scope, value: str, axes: Sequence[int]) -> _Reduction | None:
    """Return how a mean is taken over the samples and all but one other axis; None where it is not."""
    if scope.is_sized(value) or not axes:
        return None
    shape = reading.flow.shapes(scope, value)
    if shape is None:
        if sorted(axes) != [0, *range(2, len(axes) + 1)] or len(axes) < 2:
            return None
        reduced, channel, size = set(axes), 1, None
    else:
        reduced = {axis % len(shape) for axis in axes} if shape else set()
        kept = [axis for axis, length in enumerate(shape) if axis not in reduced and length != 1]
        if len(kept) != 1:
            return None
        channel, size = kept[0], shape[kept[0]]
    place = reading.flow.place(scope, value)
    if isinstance(place, Along) and place.axis in reduced:
        origin = InputOrigin.ACTIVATIONS
    elif place is Special.UNKNOWN and 0 in reduced:
        origin = InputOrigin.UNDECIDED
    else:
        return None
    return _Reduction(channel=channel, channels=size if isinstance(size, int) else None, origin=origin)


def _users(scope: Scope) -> dict[str, list[Call]]:
    users: dict[str, list[Call]] = {}
    for call in scope.body.calls:
        for value in dict.fromkeys(call.node.inputs):
            users.setdefault(value, []).append(call)
    return users


def _quotient(scope: Scope, root: Call, users: dict[str, list[Call]], *, inverse: bool) -> str | None:
    """Return the value that samples divided by a square root are; None where nothing is divided by it.

    The square root alone is no norm: networks that feed on the spread of a batch take it too.
    """
    waiting = [(root.node.outputs[0], inverse)]
    for _ in range(_MAX_USES):
        if not waiting:
            return None
        value, inverted = waiting.pop()
        for call in users.get(value, ()):
            node = call.node
            if node.domain or not node.outputs:
                continue
            others = [name for name in node.inputs if name and name != value]
            varies = any(not scope.is_sized(name) for name in others)
            if node.op in _CARRIERS and node.inputs[0] == value:
                waiting.append((node.outputs[0], inverted))
            elif node.op == "Reciprocal" or (node.op == "Div" and not varies and node.inputs[-1] == value):
                waiting.append((node.outputs[0], not inverted))
            elif varies and node.op == ("Mul" if inverted else "Div") and (inverted or node.inputs[-1] == value):
                return node.outputs[0]
            elif node.op in ("Add", "Mul", "Max") and not varies:
                waiting.append((node.outputs[0], inverted))
    return None


def _affine(scope: Scope, value: str, users: dict[str, list[Call]]) -> dict[str, str]:
    """Return the constants that scale and shift a normalised value next, by role."""
    found: dict[str, str] = {}
    for role, op in (("weight", "Mul"), ("bias", "Add")):
        calls = users.get(value, [])
        if len(calls) != 1 or calls[0].node.op != op or len(calls[0].node.inputs) != 2:
            continue
        other = next((name for name in calls[0].node.inputs if name != value), "")
        if scope.is_fixed(other) and calls[0].node.outputs:
            found[role] = other
            value = calls[0].node.outputs[0]
    return found


def _vector(scope: Scope, value: str) -> TensorRef | None:
    """Return a constant of one long axis as a vector."""
    tensor = constant(scope, value)
    if tensor is None or sum(size != 1 for size in tensor.shape) != 1:
        return None
    return TensorRef(name=parameter_name(scope, value), dtype=tensor.dtype, shape=(tensor.numel,), load=tensor.load)


def _scalar(scope: Scope, value: str) -> float | None:
    tensor = constant(scope, value) if value else None
    if tensor is None or tensor.numel != 1:
        return None
    try:
        return float(tensor.values()[0])
    except ArtifactError:
        return None
