"""Reads checkpoints: finds the models in the object graph and says what each one holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from bn_audit.containers.inert import InertDict
from bn_audit.containers.shards import ShardIndex, lone_shard
from bn_audit.containers.source import Source
from bn_audit.containers.target import FileTarget
from bn_audit.containers.torch_file.reading import StoredTensor, TorchFile, looks_like_torch_file, read_torch_file
from bn_audit.errors import LimitExceededError, MalformedFileError, NoModelError, UnsupportedFormatError
from bn_audit.formats._checkpoint.modules import Hold, module_access
from bn_audit.formats._checkpoint.search import Found, find_models
from bn_audit.recognition.description import HeldTensor
from bn_audit.recognition.naming import is_averaged
from bn_audit.recognition.state_dict import layers_of_state_dict
from bn_audit.recognition.tree import ModuleAccess, Tree, descendants, join, read_tree
from bn_audit.subject.norm import NormLayer
from bn_audit.subject.subject import Facts, Form, Model, OrphanTensors, Subject
from bn_audit.subject.tensor import TensorRef

MAX_ENTRIES = 200_000
"""Cap on the modules and tensors of all models of a file; DeepSeek-V3 has some 60 000 modules and 90 000 tensors."""

_MODULE_FACTS = Facts.MODES | Facts.REGISTRY | Facts.SETTINGS | Facts.GRADIENTS

_SHARDED_STATES = {
    "param_shapes": "a shard of a DeepSpeed checkpoint: gather it with zero_to_fp32.py and audit the result",
    "ds_config": "a shard of a DeepSpeed checkpoint: gather it with zero_to_fp32.py and audit the result",
}
"""Keys that mark a file as part of a distributed checkpoint, and what to do about it."""


def read_checkpoint(target: FileTarget, *, format_name: str) -> Subject:
    """Return every model of a checkpoint or of the shards that an index names; see the format's ``read``."""
    parts = _Parts()
    partial = None
    if target.shard_index is not None:
        _read_shards(target, target.shard_index, parts)
    else:
        partial = lone_shard(target.source.path.name)
        _read_file(target, parts)
    return Subject(
        source=target.name,
        format=format_name,
        facts=_facts(parts),
        models=tuple(parts.models),
        norms=tuple(parts.norms),
        orphans=tuple(parts.orphans) if partial is None else (),
        has_optimizer_state=parts.has_optimizer_state,
        unread=() if partial is None else (partial,),
    )


@dataclass(slots=True)
class _Parts:
    """What the files of one checkpoint add up to."""

    models: list[Model] = field(default_factory=list)
    norms: list[NormLayer] = field(default_factory=list)
    orphans: list[OrphanTensors] = field(default_factory=list)
    has_optimizer_state: bool = False
    has_values: bool = True
    entries: int = 0

    def count(self, entries: int) -> None:
        """Add to the modules and tensors read so far.

        Raises:
            LimitExceededError: they are absurdly many. Models may share their parts: a small file can hold a thousand
                models of a thousand modules each.
        """
        self.entries += entries
        if self.entries > MAX_ENTRIES:
            raise LimitExceededError(f"its models have more than {MAX_ENTRIES} modules and tensors together: not read")


def _read_file(target: FileTarget, parts: _Parts) -> None:
    file = read_torch_file(target.source, target.archive)
    with _naming(target.name):
        found = _search(file, target.name)
        hold = _holder(file, parts)
        access = module_access(hold)
        _add_modules(parts, found, access)
        for route, mapping in found.state_dicts:
            parts.count(len(mapping))
            tensors = _tensors_of(mapping, hold)
            _add_state_dict(parts, tensors, route=route, versions=_versions(mapping))
    parts.has_optimizer_state = found.has_optimizer_state


def _add_modules(parts: _Parts, found: Found, access: ModuleAccess) -> None:
    """Add every module of the file; after them, those with norm layers that other objects inside them hold."""
    apart: dict[int, tuple[str, object]] = {}
    for route, root in found.modules:
        tree = read_tree(root, route=route, access=access, registered=found.registered)
        _add_tree(parts, tree)
        apart.update((id(held), (join(route, path), held)) for path, held in tree.apart)
    known = set(found.registered)
    while apart:
        identity, (route, module) = next(iter(apart.items()))
        del apart[identity]
        if identity in known:
            continue
        tree = read_tree(module, route=route, access=access, registered=known, excluded=known)
        known.update(map(id, descendants(module, access.children)))
        if tree.norms:
            _add_tree(parts, tree)
        apart.update((id(held), (join(route, path), held)) for path, held in tree.apart)


def _add_tree(parts: _Parts, tree: Tree) -> None:
    parts.count(len(tree.model.modules) + len(tree.model.tensors))
    parts.models.append(tree.model)
    parts.norms.extend(tree.norms)


@contextmanager
def _naming(file_name: str) -> Iterator[None]:
    """Put the name of the file before the message of a limit that was found where the file is not known."""
    try:
        yield
    except LimitExceededError as error:
        if str(error).startswith(file_name):
            raise
        raise LimitExceededError(f"{file_name}: {error}") from error


def _read_shards(target: FileTarget, index: ShardIndex, parts: _Parts) -> None:
    by_shard: dict[str, dict[str, TensorRef]] = {}
    for shard in index.shards:
        by_shard[shard] = _tensors_of_shard(target.source.sibling(shard), parts)
    tensors: dict[str, TensorRef] = {}
    for name, shard in index.weight_map.items():
        if name not in by_shard[shard]:
            raise MalformedFileError(f"{target.name}: names tensor {name!r} in {shard}, which does not hold it")
        tensors[name] = by_shard[shard][name]
    _add_state_dict(parts, tensors, route="", versions=None)


def _tensors_of_shard(source: Source, parts: _Parts) -> dict[str, TensorRef]:
    shard = FileTarget(source)
    if not looks_like_torch_file(shard):
        raise MalformedFileError(f"{source.name}: is named as a shard, but was not written by torch.save")
    file = read_torch_file(source, shard.archive)
    found = _search(file, source.name)
    hold = _holder(file, parts)
    return {name: ref for _route, mapping in found.state_dicts for name, ref in _tensors_of(mapping, hold).items()}


def _search(file: TorchFile, name: str) -> Found:
    found = find_models(file.root, file.is_tensor)
    if isinstance(file.root, dict):
        for key, reason in _SHARDED_STATES.items():
            if key in file.root:
                raise UnsupportedFormatError(f"{name}: this is {reason}")
    if not found.modules and not found.state_dicts:
        if isinstance(file.root, dict) and "blobs" in file.root:
            raise UnsupportedFormatError(
                f"{name}: this is a Caffe2 checkpoint of Detectron: load it with detectron2 and save model.state_dict()"
            )
        if file.is_tensor(file.root):
            holds = "a single tensor"
        elif found.has_optimizer_state:
            holds = "optimizer state"
        else:
            holds = ", ".join(found.other) or "nothing"
        raise NoModelError(f"{name}: no model found, it holds {holds}: name the file that holds the model's weights")
    return found


def _holder(file: TorchFile, parts: _Parts) -> Hold:
    def hold(value: object, name: str) -> HeldTensor | None:
        stored = file.tensor(value, name)
        if stored is None:
            return None
        if stored.layout in ("meta", "sparse", "quantised", "nested") and _is_norm_tensor(name):
            parts.has_values = False
        return _held(stored, name)

    return hold


def _held(stored: StoredTensor, name: str) -> HeldTensor:
    return HeldTensor(
        ref=stored.ref(name),
        requires_grad=stored.requires_grad,
        uninitialised=stored.layout == "uninitialised",
    )


def _is_norm_tensor(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "moving_mean", "moving_var"))


def _tensors_of(mapping: Mapping[object, object], hold: Hold) -> dict[str, TensorRef]:
    held = ((str(name), hold(value, str(name))) for name, value in mapping.items())
    return {name: tensor.ref for name, tensor in held if tensor is not None}


def _add_state_dict(
    parts: _Parts, tensors: dict[str, TensorRef], *, route: str, versions: Mapping[str, int] | None
) -> None:
    layers = layers_of_state_dict(tensors, model=route, versions=versions)
    parts.models.append(
        Model(
            route=route,
            form=Form.STATE_DICT,
            tensors=tuple(tensors.values()),
            averaged=is_averaged(route, None) or "n_averaged" in tensors,
        )
    )
    parts.norms.extend(layers.norms)
    parts.orphans.extend(layers.orphans)


def _versions(mapping: Mapping[object, object]) -> Mapping[str, int] | None:
    """Return ``_version`` by module path from the ``_metadata`` of a state dict."""
    state = mapping.state if isinstance(mapping, InertDict) else None
    metadata = state.get("_metadata") if isinstance(state, dict) else None
    if not isinstance(metadata, dict):
        return None
    versions = {}
    for path, entry in metadata.items():
        version = entry.get("version") if isinstance(entry, dict) else None
        if isinstance(path, str) and isinstance(version, int):
            versions[path] = version
    return versions


def _facts(parts: _Parts) -> Facts:
    facts = Facts.VALUES if parts.has_values else Facts.NONE
    if any(model.form is Form.MODULE for model in parts.models):
        facts |= _MODULE_FACTS
    return facts
