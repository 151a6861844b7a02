"""Convolutions and linear layers whose tensors are constants in the code: freezing takes a module's names away."""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.containers.torch_file.reading import TorchFile
from bn_audit.formats._torchscript.graph import WeightedCall
from bn_audit.formats._torchscript.values import Constant, Tensor, Value
from bn_audit.subject.tensor import TensorRef
from bn_audit.subject.weighted import WeightedLayer

_GENERIC_TRANSPOSED, _GENERIC_GROUPS = 6, 8
"""Arguments of ``aten::_convolution``; every other convolution has its groups in the same place as transposed ones."""
_GROUPS = 6


def weighted_layers(calls: list[WeightedCall], constants: TorchFile) -> Iterator[WeightedLayer]:
    """Yield each call whose weight is a constant."""
    for call in calls:
        weight = _constant(call.arguments[1], constants)
        if weight is None or len(weight.shape) < 2:
            continue
        bias = call.arguments[2] if len(call.arguments) > 2 else None
        generic = call.op in ("_convolution", "convolution")
        groups = 1 if call.op == "linear" else _integer(call, _GENERIC_GROUPS if generic else _GROUPS)
        transposed = bool(_integer(call, _GENERIC_TRANSPOSED)) if generic else "transpose" in call.op
        yield WeightedLayer(
            model="",
            path="",
            node=call.node,
            weight=weight,
            bias=_constant(bias, constants) if bias is not None else None,
            transposed=transposed,
            groups=groups,
        )


def constants_of(constants: TorchFile) -> tuple[TensorRef, ...]:
    """Return every tensor among the constants of the code."""
    found = []
    for index, value in enumerate(constants.root if isinstance(constants.root, tuple) else ()):
        name = f"CONSTANTS.c{index}"
        stored = constants.tensor(value, name)
        if stored is not None:
            found.append(stored.ref(name))
    return tuple(found)


def _constant(value: Value, constants: TorchFile) -> TensorRef | None:
    if not isinstance(value, Tensor) or value.slot is None or value.slot.path is not None:
        return None
    table, index = constants.root, value.slot.name[1:]
    if not isinstance(table, tuple) or not index.isdecimal() or int(index) >= len(table):
        return None
    stored = constants.tensor(table[int(index)], value.slot.qualified)
    return None if stored is None else stored.ref(value.slot.qualified)


def _integer(call: WeightedCall, place: int) -> int:
    """Return an argument; 1, the default of groups, where the printer left it out."""
    value = call.arguments[place] if place < len(call.arguments) else None
    number = value.value if isinstance(value, Constant) else 1
    return int(number) if isinstance(number, int) else 1
