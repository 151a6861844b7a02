"""Normalisation layers of an ONNX graph, whatever nodes they are made of."""

from __future__ import annotations

import re
from dataclasses import replace

from bn_audit.errors import LimitExceededError
from bn_audit.formats._onnx.batch_norms import ROLES, channels_of, is_batch_norm, read_batch_norm
from bn_audit.formats._onnx.calls import Call
from bn_audit.formats._onnx.decomposed import decomposed_batch_norms, mean_variance_norm
from bn_audit.formats._onnx.evaluation import constant
from bn_audit.formats._onnx.reading import Reading
from bn_audit.formats._onnx.scopes import Scope
from bn_audit.formats._onnx.settings import (
    DEFAULT_EPS,
    number,
    parameter_name,
    path_of,
    preceding_layer,
    type_name_of,
)
from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import Mode, ModeOrigin, NormKind, NormLayer

MAX_ELEMENTS = 1 << 25
"""Cap on the elements of all norm layers: layers may share one large tensor, and each would load it."""

_FOREIGN_BATCH_NORM = re.compile(
    r"(?:sync|fused|inplace)?_?batch_?norm(?:alization)?(?:v\d)?(?:\d?d)?|inplaceabn", re.I
)


def read_norms(reading: Reading) -> tuple[NormLayer, ...]:
    """Return one layer for each module that normalises, and one for each node that belongs to none.

    Raises:
        MalformedFileError: a node or its tensors are impossible.
        LimitExceededError: the tensors are larger than what is loaded here.
    """
    layers: list[NormLayer] = []
    for scope in reading.scope.walk():
        for call in scope.body.calls:
            layer = _layer(reading, scope, call)
            if layer is not None:
                layers.append(layer)
        layers.extend(decomposed_batch_norms(reading, scope))
    if sum(tensor.numel for layer in layers for tensor in layer.tensors.values()) > MAX_ELEMENTS:
        raise LimitExceededError(
            f"{reading.source.name}: the tensors of its norm layers have more than {MAX_ELEMENTS} elements"
        )
    return _distinct(layers)


def _layer(reading: Reading, scope: Scope, call: Call) -> NormLayer | None:
    node = call.node
    if is_batch_norm(call):
        return read_batch_norm(reading, scope, call)
    if not node.domain:
        if node.op == "InstanceNormalization":
            return _instance_norm(reading, scope, call)
        return mean_variance_norm(reading, scope, call) if node.op == "MeanVarianceNormalization" else None
    operator = node.attributes.get("operator") if node.op == "ATen" else node.op
    if isinstance(operator, str) and _FOREIGN_BATCH_NORM.fullmatch(operator):
        return _foreign_batch_norm(scope, call)
    return None


def _instance_norm(reading: Reading, scope: Scope, call: Call) -> NormLayer:
    values = dict(zip(ROLES[:2], call.node.inputs[1:3], strict=False))
    tensors = {role: found for role, name in values.items() if (found := constant(scope, name)) is not None}
    return NormLayer(
        model="",
        path=path_of(call, {role: parameter_name(scope, name) for role, name in values.items()}),
        kind=NormKind.INSTANCE_NORM,
        type_name=type_name_of(call),
        mode=Mode.UNKNOWN,
        mode_origin=ModeOrigin.NOT_RECORDED,
        uses_batch_statistics=False,
        num_features=channels_of(reading, scope, call, tensors),
        eps=number(call, "epsilon", DEFAULT_EPS),
        affine=True if tensors else None,
        weight=tensors.get("weight"),
        bias=tensors.get("bias"),
        preceding=preceding_layer(scope, call.node.inputs[0]) if call.node.inputs else None,
        node=call.node.name,
    )


def _foreign_batch_norm(scope: Scope, call: Call) -> NormLayer:
    """Return a layer for an operator of another domain, of which only the name says what it is."""
    return NormLayer(
        model="",
        path=path_of(call, {}),
        kind=NormKind.BATCH_NORM,
        type_name=type_name_of(call),
        mode=Mode.UNKNOWN,
        mode_origin=ModeOrigin.NOT_RECORDED,
        uses_batch_statistics=None,
        eps=number(call, "epsilon", None),
        confidence=Confidence.LOW,
        preceding=preceding_layer(scope, call.node.inputs[0]) if call.node.inputs else None,
        node=call.node.name,
    )


def _distinct(layers: list[NormLayer]) -> tuple[NormLayer, ...]:
    """Return one layer for each module: calls of the same one are joined, others get a path of their own."""
    found: dict[tuple[object, ...], NormLayer] = {}
    paths: set[str] = set()
    for layer in layers:
        key = (layer.path, layer.mode, layer.kind, *(tensor.name for tensor in layer.tensors.values()))
        if key in found and layer.tensors:
            found[key] = _merged(found[key], layer)
            continue
        if layer.path in paths:
            unique = f"{layer.path}.{layer.node}"
            layer = replace(layer, path=unique if unique not in paths else f"{unique}#{len(found)}")
        paths.add(layer.path)
        found[key if key not in found else (layer.path, len(found))] = layer
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
