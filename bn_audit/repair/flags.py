"""The training flags of the modules in a pickle, with the place of each within the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bn_audit.containers.archive import Archive
from bn_audit.containers.inert import Instance
from bn_audit.containers.inert_pickle.reading import read_pickle_at
from bn_audit.containers.source import Source
from bn_audit.containers.torch_file.legacy import read_legacy
from bn_audit.containers.torch_file.reading import MAX_PICKLE_BYTES
from bn_audit.containers.torch_file.sniff import is_legacy
from bn_audit.errors import LimitExceededError, MalformedFileError, UnsupportedFormatError
from bn_audit.formats._checkpoint.modules import class_of
from bn_audit.formats._checkpoint.search import children, find_models, inner_values, module_state
from bn_audit.recognition.tree import join

TRUE, FALSE = b"\x88", b"\x89"
"""NEWTRUE and NEWFALSE of pickle protocol 2 and later: one byte each, so that one can take the other's place."""

MAX_VISITED = 2_000_000


@dataclass(frozen=True, slots=True)
class StoredTruth:
    """A truth value and its position within the file."""

    offset: int
    value: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """The training flag of one module.

    Attributes:
        route: Of the model within the file.
        offset: Of its byte within the file.
    """

    route: str
    path: str
    type_name: str
    value: bool
    offset: int


def module_flags(source: Source, archive: Archive | None) -> tuple[Flag, ...]:
    """Return the flag of every pickled module of a PyTorch file, also of those outside any registry, in its order.

    Raises:
        UnsupportedFormatError: flags are not stored as single bytes: a pickle of protocol 0 or 1, or a compressed one.
        MalformedFileError, LimitExceededError: as for reading the file.
    """
    root = _root(source, archive)
    found = find_models(root, lambda _value: False)
    flags: dict[int, Flag] = {}
    for route, module in found.modules:
        for path, held in _modules(module):
            state = module_state(held) or {}
            _note(flags, state.get("training"), route, path, class_of(held), source.name)
    return tuple(sorted(flags.values(), key=lambda flag: flag.offset))


def scripted_flags(source: Source, archive: Archive) -> tuple[Flag, ...]:
    """Return the flag of every module of a TorchScript archive, in its order.

    Raises:
        UnsupportedFormatError, MalformedFileError, LimitExceededError: as for `module_flags`.
    """
    flags: dict[int, Flag] = {}
    for path, held in _objects(_root(source, archive)):
        if isinstance(held, Instance) and isinstance(held.state, dict) and "training" in held.state:
            _note(flags, held.state["training"], "", path, held.type_name, source.name)
    return tuple(sorted(flags.values(), key=lambda flag: flag.offset))


def _root(source: Source, archive: Archive | None) -> object:
    if archive is None:
        if is_legacy(source.head(64)):
            root, _storages = read_legacy(source, StoredTruth)
            return root
        return read_pickle_at(source, 0, place=StoredTruth)[0]
    member = f"{archive.root}data.pkl"
    content = archive.range_of(member, limit=MAX_PICKLE_BYTES)
    try:
        start, _length = archive.stored_range(member)
    except MalformedFileError as error:
        raise UnsupportedFormatError(
            f"{source.name}: {member} is compressed, so that its flags cannot be set in place: save it with torch.save"
        ) from error
    return read_pickle_at(content, 0, place=lambda offset, value: StoredTruth(start + offset, value))[0]


def _note(flags: dict[int, Flag], stored: object, route: str, path: str, type_name: str, name: str) -> None:
    if isinstance(stored, StoredTruth):
        flags.setdefault(
            stored.offset,
            Flag(route=route, path=path, type_name=type_name, value=stored.value, offset=stored.offset),
        )
    elif stored is not None:
        raise UnsupportedFormatError(
            f"{name}: the training flag of {path or 'the root'} is stored as {stored!r}, as old pickle protocols do: "
            "load the model, call eval() and save it with torch.save"
        )


def _modules(root: Instance) -> Iterator[tuple[str, Instance]]:
    """Yield (path, module) of a module and all that it holds, registered or not."""
    for path, held in _objects(root):
        if isinstance(held, Instance) and module_state(held) is not None:
            yield path, held


def _objects(root: object) -> Iterator[tuple[str, object]]:
    """Yield (path, value) of every container and object once, children of modules by their names alone."""
    seen: set[int] = set()
    pending: list[tuple[str, object]] = [("", root)]
    while pending:
        path, value = pending.pop()
        if id(value) in seen or not isinstance(value, dict | list | tuple | set | frozenset | Instance):
            continue
        seen.add(id(value))
        if len(seen) > MAX_VISITED:
            raise LimitExceededError(f"more than {MAX_VISITED} objects in one file: not searched for modules")
        yield path, value
        held = [(join(path, name), child) for name, child in children(value)]
        others = [(join(path, str(key)), item) for key, item in inner_values(value)]
        pending.extend(reversed([*held, *others]))
