"""Normalisation layers of an ONNX graph: one for each batch-norm or instance-norm node.

Source: onnx/docs/Changelog.md of ONNX 1.23, BatchNormalization, InstanceNormalization, MeanVarianceNormalization.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bn_audit.containers.onnx_tensors import check_external
from bn_audit.containers.source import Source
from bn_audit.errors import MalformedFileError
from bn_audit.formats._onnx.assembly import Call
from bn_audit.formats._onnx.evaluation import constant
from bn_audit.formats._onnx.modes import stated_mode
from bn_audit.formats._onnx.names import role_and_path
from bn_audit.formats._onnx.origins import Flow
from bn_audit.formats._onnx.scopes import Scope
from bn_audit.formats._onnx.shapes import Shapes
from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin, NormKind, NormLayer
from bn_audit.subject.tensor import TensorRef

ROLES = ("weight", "bias", "running_mean", "running_var")

NEWEST_OPERATOR_SET = 27
"""Of the operators read here, as of ONNX 1.23; a newer one is judged by this one's rules."""

_DEFAULT_EPS = 1e-5
_DEFAULT_MOMENTUM = 0.9
_NORM_CLASS = re.compile(r"(?:Batch|Instance)_?Norm|InPlaceABN", re.IGNORECASE)
_PASSING = frozenset(("Identity", "Cast", "CastLike", "Reshape", "Squeeze", "Unsqueeze", "Flatten"))
"""Operators behind which a value is still the same numbers."""

_LAYERS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul", "ConvInteger", "QLinearConv"))
_MAX_HOPS = 64


def shortest(value: float) -> float:
    """Return the shortest decimal number that is stored as this float32: 1e-05 for 9.999999747378752e-06."""
    if not math.isfinite(value):
        return value
    for digits in range(1, 9):
        candidate = float(f"{value:.{digits}g}")
        if abs(candidate) < 3e38 and struct.pack("<f", candidate) == struct.pack("<f", value):
            return candidate
    return value


@dataclass(slots=True, kw_only=True, eq=False)
class Reading:
    """One graph while its layers are read.

    Attributes:
        notes: What could not be read, for the user.
    """

    source: Source
    scope: Scope
    notes: list[str] = field(default_factory=list)
    _flow: Flow | None = None

    @property
    def flow(self) -> Flow:
        """Where values come from; built when it is first needed."""
        if self._flow is None:
            self._flow = Flow(Shapes(self.scope))
        return self._flow


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statistics:
    """Where mean and variance of a node come from.

    Attributes:
        given: By the caller at each run.
        computed: In the graph, from what the samples are.
    """

    given: bool
    computed: bool


def read_norms(reading: Reading) -> tuple[NormLayer, ...]:
    """Return one layer for each module that normalises, and one for each node that belongs to none."""
    layers: list[NormLayer] = []
    for scope in reading.scope.walk():
        for call in scope.body.calls:
            node = call.node
            if node.domain in ("", "com.ms.internal.nhwc") and node.op == "BatchNormalization":
                layers.append(_batch_norm(reading, scope, call))
            elif not node.domain and node.op == "InstanceNormalization":
                layers.append(_instance_norm(scope, call))
    return _distinct(layers)


def _batch_norm(reading: Reading, scope: Scope, call: Call) -> NormLayer:
    node = call.node
    if len(node.inputs) != 5 or not all(node.inputs) or not node.outputs or not node.outputs[0]:
        raise MalformedFileError(
            f"{reading.source.name}: node {node.name!r}: BatchNormalization with {len(node.inputs)} inputs and "
            f"{len(node.outputs)} outputs, where it takes 5 and at least 1: export the model again"
        )
    version = min(call.version or NEWEST_OPERATOR_SET, NEWEST_OPERATOR_SET)
    statement = stated_mode(call, version)
    tensors = _tensors(reading, scope, call)
    statistics = _statistics(scope, node.inputs[3:5])
    mode, origin = statement.mode, statement.origin
    input_origin = None
    uses: bool | None = mode is Mode.TRAIN
    confidence = Confidence.HIGH
    if statistics.computed or mode is Mode.TRAIN:
        input_origin = reading.flow.origin(scope, node.inputs[0])
        uses = input_origin not in (InputOrigin.PARAMETERS, InputOrigin.INSTANCES)
        confidence = Confidence.MEDIUM if input_origin is InputOrigin.UNDECIDED else Confidence.HIGH
    if statistics.computed:
        origin = ModeOrigin.ONNX_COMPUTED
    elif statistics.given and mode is Mode.EVAL:
        mode, uses = Mode.CALLER, None
    weight = tensors.get("weight")
    return NormLayer(
        model="",
        path=_path(call, tensors),
        kind=NormKind.BATCH_NORM,
        type_name=_type_name(call),
        mode=mode,
        mode_origin=origin,
        uses_batch_statistics=uses,
        num_features=weight.shape[0] if weight is not None and len(weight.shape) == 1 else None,
        eps=_number(call, "epsilon", _DEFAULT_EPS),
        momentum=_momentum(call, mode),
        affine=True,
        weight=weight,
        bias=tensors.get("bias"),
        running_mean=tensors.get("running_mean"),
        running_var=tensors.get("running_var"),
        input_origin=input_origin,
        confidence=confidence,
        contradiction=statement.contradiction,
        preceding=_preceding(scope, node.inputs[0]),
        node=node.name,
    )


def _instance_norm(scope: Scope, call: Call) -> NormLayer:
    names = dict(zip(ROLES[:2], call.node.inputs[1:3], strict=False))
    tensors = {role: found for role, name in names.items() if (found := constant(scope, name)) is not None}
    weight = tensors.get("weight")
    return NormLayer(
        model="",
        path=_path(call, tensors),
        kind=NormKind.INSTANCE_NORM,
        type_name=_type_name(call),
        mode=Mode.UNKNOWN,
        mode_origin=ModeOrigin.ONNX_ATTRIBUTE,
        uses_batch_statistics=False,
        num_features=weight.shape[0] if weight is not None and len(weight.shape) == 1 else None,
        eps=_number(call, "epsilon", _DEFAULT_EPS),
        affine=True,
        weight=weight,
        bias=tensors.get("bias"),
        preceding=_preceding(scope, call.node.inputs[0]) if call.node.inputs else None,
        node=call.node.name,
    )


def _tensors(reading: Reading, scope: Scope, call: Call) -> dict[str, TensorRef]:
    """Return the tensors of a batch norm by role; those whose values are not computed here are noted."""
    found: dict[str, TensorRef] = {}
    for role, name in zip(ROLES, call.node.inputs[1:5], strict=True):
        tensor = constant(scope, name)
        if tensor is not None:
            found[role] = tensor
            record = scope.record(name)
            if record is not None:
                check_external(reading.source, record)
        elif scope.is_fixed(name):
            reading.notes.append(f"{role} of {call.node.name}: computed from constants in a way that is not followed")
    return found


def _statistics(scope: Scope, values: tuple[str, ...]) -> _Statistics:
    given = computed = False
    for value in values:
        if scope.is_fixed(value):
            continue
        if _is_given(scope, value):
            given = True
        else:
            computed = True
    return _Statistics(given=given, computed=computed)


def _is_given(scope: Scope, value: str) -> bool:
    """Return whether a value is an input of the graph, as it comes or in another shape or dtype."""
    for _ in range(_MAX_HOPS):
        made = scope.maker(value)
        if made is None:
            owner = scope.owner(value)
            return owner is not None and owner.outer is None
        scope, call = made
        if call.node.op not in _PASSING or call.node.domain or not call.node.inputs:
            return False
        value = call.node.inputs[0]
    return False


def _path(call: Call, tensors: Mapping[str, TensorRef]) -> str:
    """Return the module path: as the file records it, else as the tensors are named, else the node's name."""
    named = [found for tensor in tensors.values() if (found := role_and_path(tensor.name)) is not None]
    by_role = {role: role_and_path(tensor.name) for role, tensor in tensors.items()}
    agreeing = [pair[1] for role, pair in by_role.items() if pair is not None and pair[0] == role]
    if agreeing:
        return max(dict.fromkeys(agreeing), key=agreeing.count)
    return call.place.path or (named[0][1] if named else "") or call.node.name


def _type_name(call: Call) -> str:
    place = call.place.type_name
    if place is not None and _NORM_CLASS.search(place.rpartition(".")[2]):
        return place
    version = f"-{call.version}" if call.version is not None else ""
    return f"{call.node.domain or 'ai.onnx'}.{call.node.op}{version}"


def _number(call: Call, name: str, default: float) -> float:
    value = call.node.attributes.get(name, default)
    return shortest(float(value)) if isinstance(value, int | float) else default


def _momentum(call: Call, mode: Mode) -> float | None:
    """Return the weight of the new batch; ONNX stores one minus that."""
    stored = _number(call, "momentum", _DEFAULT_MOMENTUM)
    momentum = round(1 - stored, 9) if math.isfinite(stored) else stored
    # PyTorch's exporters write 0 for a momentum of None, the cumulative average, where the layer does not train.
    return None if momentum == 0 and mode is Mode.EVAL else momentum


def _preceding(scope: Scope, value: str) -> str | None:
    """Return the path of the layer that computes a value, copies and casts left out."""
    for _ in range(_MAX_HOPS):
        made = scope.maker(value)
        if made is None:
            return None
        scope, call = made
        if call.node.op in _LAYERS and len(call.node.inputs) > 1:
            weight = role_and_path(call.node.inputs[1])
            return weight[1] if weight is not None else call.place.path or call.node.name
        if call.node.op not in ("Identity", "Cast") or not call.node.inputs:
            return None
        value = call.node.inputs[0]
    return None


def _distinct(layers: list[NormLayer]) -> tuple[NormLayer, ...]:
    """Return one layer for each module: calls of the same one are joined, others get a path of their own."""
    found: dict[tuple[object, ...], NormLayer] = {}
    paths: dict[str, tuple[object, ...]] = {}
    for layer in layers:
        key = (layer.path, layer.mode, layer.kind, *(tensor.name for tensor in layer.tensors.values()))
        if key in found and layer.tensors:
            found[key] = _merged(found[key], layer)
            continue
        if layer.path in paths:
            layer = replace(layer, path=f"{layer.path}.{layer.node}")
            key = (layer.path, id(layer))
        paths[layer.path] = key
        found[key] = layer
    return tuple(found.values())


def _merged(first: NormLayer, later: NormLayer) -> NormLayer:
    """Return a layer that is called more than once: it uses the batch if one of its calls does."""
    uses = [first.uses_batch_statistics, later.uses_batch_statistics]
    surer = later if uses[1] and (not uses[0] or later.confidence is Confidence.HIGH) else first
    return replace(
        first,
        uses_batch_statistics=True if True in uses else (None if None in uses else False),
        input_origin=surer.input_origin,
        confidence=surer.confidence,
        contradiction=first.contradiction or later.contradiction,
    )
