"""Normalisation layers of an exported program: what its calls say, put together for each registered layer.

A call belongs to the module that holds its tensors under their usual names, else to the module at the end of its stack.
Names come first because decomposition and higher-order operators lose the stack.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from bn_audit.formats._exported.arithmetic import arithmetic_norms
from bn_audit.formats._exported.document import finite_number
from bn_audit.formats._exported.flow import SYMBOLIC, Flow, constant, tensor_argument
from bn_audit.formats._exported.graph import Call, Program
from bn_audit.formats._exported.operators import INSTANCE_NORM, NORMS, SYNC_BATCH_NORM, NormOperator
from bn_audit.formats._exported.tensors import ProgramTensor
from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin, NormKind, NormLayer

ROLES = ("weight", "bias", "running_mean", "running_var")

Tensors = Mapping[str, ProgramTensor]

_NORM_CLASS = re.compile(r"(?:Batch|Instance)_?Norm|InPlaceABN", re.IGNORECASE)
_INSTANCE_CLASS = "torch.nn.modules.instancenorm."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Site:
    """One normalising call.

    Attributes:
        names: Name of the parameter or buffer for each role; None where it is computed.
        given: Roles for which the call takes a tensor.
        path: Of the layer it belongs to; None where no module is known.
        aliases: Other paths at which that module is registered.
        type_name: Class of that module; None where not recorded.
    """

    call: Call
    operator: NormOperator
    names: Mapping[str, str | None]
    given: frozenset[str]
    path: str | None
    aliases: tuple[str, ...]
    type_name: str | None


def read_norms(program: Program, tensors: Tensors, model: str) -> tuple[NormLayer, ...]:
    """Return one layer for each module that normalises, and one for each call that belongs to none."""
    flow = Flow(program)
    places: dict[object, list[str]] = {}
    for name, tensor in tensors.items():
        places.setdefault(tensor.place, []).append(name)
    sites = [_site(program, flow, call, places, tensors) for call in program.calls if call.op in NORMS]
    anonymous = Counter(site.path for site in sites if site.path is not None and not _owns(site))
    layers: dict[tuple[object, ...], NormLayer] = {}
    for site in sites:
        layer = _layer(program, flow, site, tensors, model)
        if site.path is None or (not _owns(site) and (anonymous[site.path] > 1 or not site.path)):
            layer = replace(layer, path=_unique_name(site))
        key = (layer.path, layer.mode, layer.kind, *site.names.values())
        layers[key] = _merged(layers[key], layer) if key in layers else layer
    consumed: set[str] = set()
    for name in {name for site in sites for name in site.names.values() if name is not None}:
        place = tensors[name].place if name in tensors else None
        consumed.update([name] if place is None else places[place])
    return (*layers.values(), *arithmetic_norms(program, flow, tensors, consumed, model))


def _unique_name(site: _Site) -> str:
    """Return the name of a call that belongs to no module of its own, below the module that makes it."""
    parts = (site.path or "", site.call.scope.replace("/", ""), site.call.node)
    return ".".join(part for part in parts if part)


def _site(program: Program, flow: Flow, call: Call, places: Mapping[object, list[str]], tensors: Tensors) -> _Site:
    operator = NORMS[call.op]
    roles = ROLES if operator.statistics else ROLES[:2]
    values = {role: tensor_argument(program.reader, call, role) for role in roles}
    names = {role: flow.name(value) for role, value in values.items()}
    path, type_name = call.module or (None, None)
    owners = _owners(names, places, tensors)
    aliases: tuple[str, ...] = ()
    if owners:
        if path not in owners and not _is_norm_class(type_name):
            type_name = program.modules.types.get(owners[0])
        path, aliases = owners[0], tuple(owners[1:])
        names = {role: f"{path}.{role}" if path and name else name and role for role, name in names.items()}
    return _Site(
        call=call,
        operator=operator,
        names=names,
        given=frozenset(role for role, value in values.items() if value is not None),
        path=path,
        aliases=aliases,
        type_name=type_name,
    )


def _owners(names: Mapping[str, str | None], places: Mapping[object, list[str]], tensors: Tensors) -> list[str]:
    """Return the paths of the module that holds these tensors under their usual names; the first is its own path.

    The program names a shared tensor once; the state dict names it at every path at which a module is registered.
    """
    common: list[str] | None = None
    for role, name in names.items():
        if name is None:
            continue
        tensor = tensors.get(name)
        shared = [name] if tensor is None or tensor.place is None else places[tensor.place]
        found = [path for path, _, last in (other.rpartition(".") for other in shared) if last == role]
        common = found if common is None else [path for path in common if path in found]
    return common or []


def _is_norm_class(type_name: str | None) -> bool:
    return _NORM_CLASS.search((type_name or "").rpartition(".")[2]) is not None


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _owns(site: _Site) -> bool:
    """Return whether the layer is a module of its own, not a function called within another module."""
    if _is_norm_class(site.type_name):
        return True
    return any(name == (f"{site.path}.{role}" if site.path else role) for role, name in site.names.items())


def _layer(program: Program, flow: Flow, site: _Site, tensors: Tensors, model: str) -> NormLayer:
    call, held = site.call, {role: tensors.get(name) for role, name in site.names.items() if name}
    source = next((tensor_argument(program.reader, call, key) for key in ("input", "self")), None)
    origin = flow.origin(source) if source is not None and call.op != INSTANCE_NORM else None
    kind = _kind(site, origin)
    mode = _mode(program, site, kind)
    uses = _uses_batch_statistics(program, flow, site, kind, mode, origin)
    refs = {role: tensor.ref for role, tensor in held.items() if tensor is not None}
    gradients = [held[role] for role in ("weight", "bias") if held.get(role) is not None]
    grads = [tensor.requires_grad for tensor in gradients if tensor is not None]
    counter = tensors.get(f"{site.path}.num_batches_tracked" if site.path else "num_batches_tracked")
    number = finite_number(constant(program.reader, call, site.operator.momentum or ""))
    return NormLayer(
        model=model,
        path=site.path or "",
        kind=kind,
        type_name=site.type_name if site.type_name and _owns(site) else call.target,
        mode=mode,
        mode_origin=ModeOrigin.EXPORTED_ARGUMENT,
        uses_batch_statistics=uses,
        num_features=_channels(program, flow, source, origin, {role: ref.shape for role, ref in refs.items()}),
        eps=finite_number(constant(program.reader, call, site.operator.eps)),
        # PyTorch writes 0 for a momentum of None, the cumulative average, where the layer does not train.
        momentum=None if number == 0 and mode is Mode.EVAL else number,
        affine="weight" in site.given or "bias" in site.given,
        weight=refs.get("weight"),
        bias=refs.get("bias"),
        running_mean=refs.get("running_mean"),
        running_var=refs.get("running_var"),
        num_batches_tracked=counter.ref if counter is not None and _owns(site) else None,
        requires_grad=None if not grads or None in grads else any(grads),
        input_origin=origin,
        confidence=Confidence.MEDIUM if uses is not False and origin is InputOrigin.UNDECIDED else Confidence.HIGH,
        preceding=_preceding(flow, site, source),
        node=call.node,
        aliases=site.aliases,
    )


def _kind(site: _Site, origin: InputOrigin | None) -> NormKind:
    type_name = site.type_name or ""
    if site.call.op == INSTANCE_NORM:
        return NormKind.INSTANCE_NORM
    if type_name.startswith(_INSTANCE_CLASS) and origin is not InputOrigin.ACTIVATIONS:
        return NormKind.INSTANCE_NORM
    if type_name.endswith("SyncBatchNorm") or site.call.op == SYNC_BATCH_NORM:
        return NormKind.SYNC_BATCH_NORM
    return NormKind.BATCH_NORM


def _mode(program: Program, site: _Site, kind: NormKind) -> Mode:
    """Return the mode the call states; an InstanceNorm without statistics is called alike in both."""
    if kind is NormKind.INSTANCE_NORM and "running_mean" not in site.given:
        return Mode.UNKNOWN
    training = site.operator.training
    stated = constant(program.reader, site.call, training) if isinstance(training, str) else training
    if stated is SYMBOLIC:
        return Mode.CALLER
    return {True: Mode.TRAIN, False: Mode.EVAL}[stated] if isinstance(stated, bool) else Mode.UNKNOWN


def _uses_batch_statistics(
    program: Program, flow: Flow, site: _Site, kind: NormKind, mode: Mode, origin: InputOrigin | None
) -> bool | None:
    if not kind.is_batch_norm or origin in (InputOrigin.PARAMETERS, InputOrigin.INSTANCES):
        return False
    if mode is Mode.TRAIN or (site.operator.statistics and "running_mean" not in site.given):
        return True
    if mode is not Mode.EVAL:
        return None
    # Statistics that the graph computes from the samples are the batch's, or each sample's own.
    computed = [tensor_argument(program.reader, site.call, role) for role in ROLES[2:] if site.names.get(role) is None]
    return None if any(value and flow.depends_on_samples(value) is not False for value in computed) else False


def _channels(
    program: Program,
    flow: Flow,
    source: str | None,
    origin: InputOrigin | None,
    shapes: Mapping[str, tuple[int, ...]],
) -> int | None:
    for shape in shapes.values():
        if len(shape) == 1:
            return shape[0]
    if source is None:
        return None
    if origin is InputOrigin.INSTANCES:
        return flow.sample_channels(source)
    recorded = program.shape(source)
    channels = recorded[1] if recorded is not None and len(recorded) > 1 else None
    return channels if isinstance(channels, int) else None


def _preceding(flow: Flow, site: _Site, source: str | None) -> str | None:
    """Return the path of the module that computes the input, where it is a layer beside this one."""
    call = flow.maker(source)
    if call is None or call.module is None:
        return None
    path = call.module[0]
    contains_it = path in ("", site.path) or (site.path or "").startswith(f"{path}.")
    return None if contains_it else path


def _merged(first: NormLayer, later: NormLayer) -> NormLayer:
    """Return a layer that is called more than once: it uses the batch if one of its calls does."""
    uses = [first.uses_batch_statistics, later.uses_batch_statistics]
    surer = later if uses[1] and (not uses[0] or later.confidence is Confidence.HIGH) else first
    return replace(
        first,
        uses_batch_statistics=True if True in uses else (None if None in uses else False),
        input_origin=surer.input_origin,
        confidence=surer.confidence,
    )
