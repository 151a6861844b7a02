"""Visits everything that a file read as inert values holds, as a reader of models would."""

from bn_audit.containers.archive import Archive
from bn_audit.containers.inert import InertDict, Instance, PersistentId
from bn_audit.containers.source import Source
from bn_audit.containers.torch_file.reading import TorchFile, read_torch_file
from bn_audit.errors import ArtifactError


def open_torch_file(source: Source) -> TorchFile:
    """Read a file as the formats do."""
    return read_torch_file(source, Archive(source) if source.head(2) == b"PK" else None)


def walk(file: TorchFile, *, most: int = 20_000) -> tuple[int, int]:
    """Recognise and load every tensor; return how many there are, and how many could not be had."""
    seen: dict[int, object] = {}
    waiting = [file.root]
    tensors = failed = 0
    while waiting and len(seen) < most:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        try:
            tensor = file.tensor(value, "a tensor")
            if tensor is not None:
                tensors += 1
                tensor.load()
        except ArtifactError as error:
            failed += 1
            assert str(error)
        waiting.extend(_parts(value))
    return tensors, failed


def _parts(value: object) -> list[object]:
    parts: list[object] = []
    if isinstance(value, dict):
        parts = [*value.keys(), *value.values()]
        if isinstance(value, InertDict):
            parts.append(value.state)
    elif isinstance(value, list | tuple | set | frozenset):
        parts = list(value)
    elif isinstance(value, Instance):
        parts = [value.constructor, value.args, value.kwargs, value.state, value.items, value.entries]
    elif isinstance(value, PersistentId):
        parts = [value.value]
    return parts
