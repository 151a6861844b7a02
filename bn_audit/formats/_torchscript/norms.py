"""The norm layers of a TorchScript model: what its modules hold, joined with the calls that its code makes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from bn_audit.containers.torch_file.reading import StoredTensor, TorchFile
from bn_audit.formats._torchscript.graph import Graph, NormCall
from bn_audit.formats._torchscript.inputs import Inputs
from bn_audit.formats._torchscript.tree import ModuleTree, TreeModule
from bn_audit.formats._torchscript.values import NO_FLAGS, Constant, Slot, Tensor, Value, number_of
from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin, NormKind, NormLayer
from bn_audit.subject.tensor import TensorRef

_NORM_CLASS = re.compile(r"norm", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that is known about the norm layers of one model.

    Attributes:
        registered: Layers recognised by what their module holds, by path.
        calls: Calls of norm operators that ``forward`` makes.
        graph: The evaluation in which they were found.
        reached: Paths of the modules of which ``forward`` calls a method.
        exported: Paths of the modules that other methods of the root call.
    """

    tree: ModuleTree
    constants: TorchFile
    registered: Mapping[str, NormLayer]
    calls: tuple[NormCall, ...]
    inputs: Inputs
    graph: Graph
    reached: frozenset[str]
    exported: frozenset[str]


def norm_layers(evidence: Evidence) -> tuple[NormLayer, ...]:
    """Return every norm layer in the order of ``named_modules()``, then the calls that belong to no module."""
    calls: dict[str, list[NormCall]] = {}
    loose: dict[tuple[object, ...], list[NormCall]] = {}
    for call in evidence.calls:
        owner = _owner(call)
        if owner in evidence.registered:
            calls.setdefault(owner, []).append(call)
        else:
            key = (owner, call.place.node, call.op, call.weight, call.bias, call.mean, call.variance)
            loose.setdefault(key, []).append(call)
    found = [
        _called(layer, calls[path], evidence) if path in calls else _uncalled(layer, evidence)
        for path, layer in evidence.registered.items()
    ]
    numbers: Counter[str] = Counter()
    for group in loose.values():
        found.append(_called(_from_call(group[0], evidence, numbers), group, evidence))
    order = {path: index for index, path in enumerate(evidence.tree.modules)}
    found.sort(key=lambda layer: order.get(layer.path, len(order)))
    kept = list(_without_copies(found, set(calls), evidence))
    return tuple(sorted(kept, key=lambda layer: order.get(layer.path, len(order))))


def _owner(call: NormCall) -> str:
    """Return the path of the module whose tensors a call is given; without any, of the one that makes the call."""
    for value in (call.mean, call.variance, call.weight, call.bias):
        if isinstance(value, Tensor) and value.slot is not None and value.slot.path is not None:
            return value.slot.path
    return call.place.path


def _called(layer: NormLayer, calls: list[NormCall], evidence: Evidence) -> NormLayer:
    """Return a layer with the truth of its calls; of several, one that normalises with the batch counts."""
    judged = [_judged(layer, call, evidence) for call in calls]
    return next((item for item in judged if item.uses_batch_statistics), judged[0])


def _judged(layer: NormLayer, call: NormCall, evidence: Evidence) -> NormLayer:
    kind = layer.kind
    if call.op == "instance_norm":
        kind = NormKind.INSTANCE_NORM
    elif kind is NormKind.INSTANCE_NORM:
        kind = NormKind.BATCH_NORM
    training = call.training.value if isinstance(call.training, Constant) else None
    mode, origin = _mode(layer, call, evidence)
    uses: bool | None = None if training is None else bool(training)
    uses = uses if kind.is_batch_norm else False
    source = evidence.inputs.origin(call) if uses is not False else None
    if source in (InputOrigin.PARAMETERS, InputOrigin.INSTANCES):
        uses = False
    eps, momentum = number_of(call.eps), number_of(call.momentum)
    return replace(
        layer,
        kind=kind,
        mode=mode,
        mode_origin=origin,
        uses_batch_statistics=uses,
        eps=eps if eps is not None else layer.eps,
        momentum=layer.momentum if layer.momentum is not None or layer.cumulative else momentum,
        affine=layer.affine if layer.affine is not None else not _is_none(call.weight),
        input_origin=source,
        confidence=Confidence.MEDIUM if source is InputOrigin.UNDECIDED else layer.confidence,
        preceding=_preceding(call, evidence) or layer.preceding,
    )


def _mode(layer: NormLayer, call: NormCall, evidence: Evidence) -> tuple[Mode, ModeOrigin]:
    flags = call.place.flags.union(*(_flags(value) for value in (call.training, call.mean, call.variance)))
    module = evidence.tree.modules.get(layer.path)
    stored = call.mean if not _is_none(call.mean) else call.variance
    if _is_none(stored) and module is not None and module.is_scripted and layer.path in evidence.registered:
        # Without statistics scripting folds the flag away, and the literal says nothing about the saved mode.
        flags |= {layer.path}
    if isinstance(call.training, Tensor):
        return (
            (Mode.CALLER, ModeOrigin.NOT_RECORDED)
            if call.training.argument
            else (Mode.UNKNOWN, ModeOrigin.NOT_RECORDED)
        )
    training = isinstance(call.training, Constant) and bool(call.training.value)
    if not flags:
        return (Mode.TRAIN if training else Mode.EVAL), ModeOrigin.TRACED_CONSTANT
    saved = {path: owner.training for path in flags if (owner := evidence.tree.modules.get(path)) is not None}
    own = saved.get(layer.path)
    if own is None:
        own = training and any(saved.values())
    return (Mode.TRAIN if own else Mode.EVAL), ModeOrigin.SCRIPTED_FLAG


def _uncalled(layer: NormLayer, evidence: Evidence) -> NormLayer:
    """Return a layer of which no norm operator is called: hand-written, or not part of ``forward``."""
    layer = replace(layer, mode_origin=ModeOrigin.SCRIPTED_FLAG)
    if not layer.kind.is_batch_norm:
        return layer
    if layer.path in evidence.reached:
        return layer if _reads_its_flag(layer, evidence) else _of_unknown_mode(layer)
    # Whether it runs is up to who calls the other methods; without any, it never does.
    return replace(layer, uses_batch_statistics=None if layer.path in evidence.exported else False)


def _reads_its_flag(layer: NormLayer, evidence: Evidence) -> bool:
    module = evidence.tree.modules.get(layer.path)
    return module is not None and module.code is not None and ".training" in module.code.text


def _of_unknown_mode(layer: NormLayer) -> NormLayer:
    """Return a hand-written layer whose code is the same in either mode: traced, or blind to the flag."""
    return replace(
        layer,
        mode=Mode.UNKNOWN,
        mode_origin=ModeOrigin.NOT_RECORDED,
        uses_batch_statistics=None,
        confidence=Confidence.MEDIUM,
    )


def _from_call(call: NormCall, evidence: Evidence, numbers: Counter[str]) -> NormLayer:
    """Return a layer for a call that belongs to no recognised module: a functional call, a frozen graph."""
    path = _owner(call)
    module = evidence.tree.modules.get(path)
    type_name = module.type_name if module is not None else ""
    named = path and _NORM_CLASS.search(type_name.rpartition(".")[2])
    if not path:
        path = f"{call.op}_{numbers[call.op]}" if numbers[call.op] else call.op
        numbers[call.op] += 1
    roles = {"weight": call.weight, "bias": call.bias, "running_mean": call.mean, "running_var": call.variance}
    stored = {role: found for role, value in roles.items() if (found := _stored(value, evidence)) is not None}
    refs = {role: tensor.ref(_slot(roles[role]).qualified) for role, tensor in stored.items()}
    gradients = [tensor.requires_grad for role, tensor in stored.items() if role in ("weight", "bias")]
    in_modules = all(_slot(roles[role]).path is not None for role in stored)
    kind = NormKind.SYNC_BATCH_NORM if named and "Sync" in type_name else NormKind.BATCH_NORM
    if call.op.startswith("quantized."):
        kind = NormKind.FROZEN_BATCH_NORM
    return NormLayer(
        model="",
        path=path,
        kind=kind,
        type_name=type_name if named else f"aten::{call.op}",
        mode=Mode.UNKNOWN,
        mode_origin=ModeOrigin.NOT_RECORDED,
        uses_batch_statistics=None,
        num_features=next((tensor.shape[0] for tensor in stored.values() if len(tensor.shape) == 1), None),
        weight=refs.get("weight"),
        bias=refs.get("bias"),
        running_mean=refs.get("running_mean"),
        running_var=refs.get("running_var"),
        num_batches_tracked=_counter(module, evidence) if named else None,
        requires_grad=any(gradients) if gradients and in_modules and None not in gradients else None,
        node=None if named else call.place.node or call.op,
        aliases=tuple(module.aliases) if named and module else (),
    )


def _counter(module: TreeModule | None, evidence: Evidence) -> TensorRef | None:
    stored = evidence.tree.stored(module, "num_batches_tracked") if module else None
    return stored.ref(f"{module.path}.num_batches_tracked") if stored and module else None


def _without_copies(layers: Iterable[NormLayer], called: set[str], evidence: Evidence) -> Iterable[NormLayer]:
    """Join the layers that the writer made of one module with several names: the very same tensors, in one mode.

    Tracing leaves the further names without code; scripting compiles the module once for each name.
    """
    kept: list[NormLayer] = []
    first: dict[tuple[str, ...], int] = {}
    for layer in sorted(layers, key=lambda item: item.path not in called):
        storage = _storage(layer, evidence)
        index = first.get(storage, len(kept)) if storage else len(kept)
        if index < len(kept) and (layer.path not in called or kept[index].mode is layer.mode):
            original = kept[index]
            kept[index] = replace(original, aliases=(*original.aliases, layer.path, *layer.aliases))
            continue
        first.setdefault(storage, len(kept))
        kept.append(layer)
    return kept


def _storage(layer: NormLayer, evidence: Evidence) -> tuple[str, ...]:
    """Return what identifies the statistics of a layer; empty for a layer without any."""
    module = evidence.tree.modules.get(layer.path)
    if module is None or layer.running_mean is None or layer.running_var is None:
        return ()
    stored = (evidence.tree.stored(module, name) for name in ("running_mean", "running_var", "weight", "bias"))
    return tuple(str(tensor.storage) for tensor in stored if tensor is not None)


def _preceding(call: NormCall, evidence: Evidence) -> str | None:
    if not isinstance(call.input, Tensor):
        return None
    return evidence.graph.made_by.get(call.input.name)


def _stored(value: Value, evidence: Evidence) -> StoredTensor | None:
    if not isinstance(value, Tensor) or value.slot is None:
        return None
    slot = value.slot
    if slot.path is None:
        table = evidence.constants.root
        index = int(slot.name[1:])
        return evidence.constants.tensor(table[index], slot.qualified) if isinstance(table, tuple) else None
    module = evidence.tree.modules.get(slot.path)
    return evidence.tree.stored(module, slot.name) if module else None


def _slot(value: Value) -> Slot:
    if isinstance(value, Tensor) and value.slot is not None:
        return value.slot
    raise TypeError("not a stored tensor")


def _flags(value: Value) -> frozenset[str]:
    return value.flags if isinstance(value, Constant) else NO_FLAGS


def _is_none(value: Value) -> bool:
    return isinstance(value, Constant) and value.value is None
