"""Batch norms of an ONNX graph that are one node each.

Source: onnx/docs/Changelog.md of ONNX 1.23, BatchNormalization; onnxruntime 1.31 ``BatchNormInternal``, which its
training graphs hold.
"""

from __future__ import annotations

from enum import Enum

from bn_audit.containers.onnx_file.tensors import check_external
from bn_audit.errors import MalformedFileError
from bn_audit.formats._onnx.calls import Call
from bn_audit.formats._onnx.evaluation import constant
from bn_audit.formats._onnx.modes import Statement, stated_mode
from bn_audit.formats._onnx.reading import Reading
from bn_audit.formats._onnx.scopes import Scope
from bn_audit.formats._onnx.settings import (
    DEFAULT_EPS,
    momentum_of,
    number,
    origins,
    parameter_name,
    path_of,
    preceding_layer,
    type_name_of,
)
from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin, NormKind, NormLayer
from bn_audit.subject.tensor import TensorRef

ROLES = ("weight", "bias", "running_mean", "running_var")

NEWEST_OPERATOR_SET = 28
"""Of the operators read here, as of ONNX 1.23; a newer one is judged by this one's rules."""

_INTERNAL = ("com.microsoft", "BatchNormInternal")


class _Statistics(Enum):
    """Where the mean and the variance of a node come from."""

    STORED = "stored"
    GIVEN = "given"
    """By the caller at each run."""
    COMPUTED = "computed"
    """In the graph, from what the samples are."""


def is_batch_norm(call: Call) -> bool:
    """Return whether a node is a batch norm: ONNX's, its copy for images with channels last, or that of training."""
    node = call.node
    return (node.op == "BatchNormalization" and node.domain in ("", "com.ms.internal.nhwc")) or (
        node.domain,
        node.op,
    ) == _INTERNAL


def read_batch_norm(reading: Reading, scope: Scope, call: Call) -> NormLayer:
    """Return the layer of a batch-norm node.

    Raises:
        MalformedFileError: it lacks an input, or its tensors lie where none may be.
    """
    node = call.node
    if len(node.inputs) != 5 or not all(node.inputs) or not node.outputs or not node.outputs[0]:
        raise MalformedFileError(
            f"{reading.source.name}: node {node.name!r}: {node.op} with {len(node.inputs)} inputs and "
            f"{len(node.outputs)} outputs, where it takes 5 and at least 1: export the model again"
        )
    statement = _statement(call)
    names = {role: parameter_name(scope, name) for role, name in zip(ROLES, node.inputs[1:], strict=True)}
    fixed_input = scope.is_fixed(node.inputs[0])
    tensors = _tensors(reading, scope, call, names, silent=fixed_input)
    statistics = _statistics(scope, node.inputs[3:])
    mode, origin = statement.mode, statement.origin
    input_origin = InputOrigin.PARAMETERS if fixed_input else None
    if input_origin is None and (mode is Mode.TRAIN or statistics is _Statistics.COMPUTED):
        input_origin = reading.flow.origin(scope, node.inputs[0])
    uses: bool | None = input_origin in (InputOrigin.ACTIVATIONS, InputOrigin.UNDECIDED)
    if statistics is _Statistics.COMPUTED:
        origin = ModeOrigin.ONNX_COMPUTED
    elif statistics is _Statistics.GIVEN and mode is Mode.EVAL and not fixed_input:
        mode, uses = Mode.CALLER, None
    return NormLayer(
        model="",
        path=path_of(call, names),
        kind=NormKind.BATCH_NORM,
        type_name=type_name_of(call),
        mode=mode,
        mode_origin=origin,
        uses_batch_statistics=uses,
        num_features=channels_of(reading, scope, call, tensors, input_origin),
        eps=number(call, "epsilon", DEFAULT_EPS),
        momentum=momentum_of(call, mode),
        affine=True if "weight" in tensors or "bias" in tensors else None,
        weight=tensors.get("weight"),
        bias=tensors.get("bias"),
        running_mean=tensors.get("running_mean"),
        running_var=tensors.get("running_var"),
        input_origin=input_origin,
        confidence=Confidence.MEDIUM if uses and input_origin is InputOrigin.UNDECIDED else Confidence.HIGH,
        contradiction=statement.contradiction,
        preceding=preceding_layer(scope, node.inputs[0]),
        node=node.name,
    )


def _statement(call: Call) -> Statement:
    if (call.node.domain, call.node.op) == _INTERNAL:
        trains = call.node.attributes.get("training_mode", 1) != 0
        return Statement(mode=Mode.TRAIN if trains else Mode.EVAL, origin=ModeOrigin.ONNX_ATTRIBUTE)
    if call.node.domain:
        return stated_mode(call, NEWEST_OPERATOR_SET)
    return stated_mode(call, min(call.version or NEWEST_OPERATOR_SET, NEWEST_OPERATOR_SET))


def _tensors(
    reading: Reading, scope: Scope, call: Call, names: dict[str, str], *, silent: bool
) -> dict[str, TensorRef]:
    """Return the tensors by role; statistics that constants determine in a way not followed here are noted."""
    found: dict[str, TensorRef] = {}
    for (role, called), value in zip(names.items(), call.node.inputs[1:], strict=True):
        tensor = constant(scope, value)
        if tensor is not None:
            for name in origins(scope, value):
                record = scope.record(name)
                if record is not None:
                    check_external(reading.source, record)
            found[role] = TensorRef(name=called, dtype=tensor.dtype, shape=tensor.shape, load=tensor.load)
        elif role in ROLES[2:] and scope.is_sized(value) and not silent:
            reading.unfollowed.append(call.node.name)
    return found


def _statistics(scope: Scope, values: tuple[str, ...]) -> _Statistics:
    found = {_statistic(scope, value) for value in values}
    for kind in (_Statistics.COMPUTED, _Statistics.GIVEN):
        if kind in found:
            return kind
    return _Statistics.STORED


def _statistic(scope: Scope, value: str) -> _Statistics:
    if scope.is_sized(value):
        return _Statistics.STORED
    source = origins(scope, value)[-1]
    owner = scope.owner(source)
    given = owner is not None and owner.outer is None and source in owner.inputs
    return _Statistics.GIVEN if given else _Statistics.COMPUTED


def channels_of(
    reading: Reading,
    scope: Scope,
    call: Call,
    tensors: dict[str, TensorRef],
    origin: InputOrigin | None = None,
) -> int | None:
    """Return the number of channels of a norm node by its tensors, else by the shape of its input."""
    for tensor in tensors.values():
        if len(tensor.shape) == 1:
            return tensor.shape[0]
    if not call.node.inputs:
        return None
    value = call.node.inputs[0]
    if origin is InputOrigin.INSTANCES:
        return reading.flow.sample_channels(scope, value)
    shape = reading.flow.shapes(scope, value)
    axis = -1 if call.node.domain == "com.ms.internal.nhwc" else 1
    channels = shape[axis] if shape is not None and len(shape) > 1 else None
    return channels if isinstance(channels, int) else None
