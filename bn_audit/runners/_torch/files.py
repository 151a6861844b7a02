"""Modules and state dicts from the files that hold them; loading a pickled module runs code."""

from __future__ import annotations

import contextlib
import pickle
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bn_audit.containers.safetensors_header import header_length, read_header
from bn_audit.containers.shards import read_shard_index
from bn_audit.containers.source import Source
from bn_audit.errors import RunError, UnsupportedRunError
from bn_audit.recognition.tree import join
from bn_audit.runners._torch.arrays import dtype_named
from bn_audit.runners._torch.calling import models_errors, one_line
from bn_audit.runners._torch.surroundings import undisturbed
from bn_audit.subject.tensor import TensorRef

if TYPE_CHECKING:
    import torch


CHUNK_BYTES = 1 << 24
MAX_OBJECTS = 2_000_000


@contextlib.contextmanager
def importable_from_here() -> Iterator[None]:
    """Let the file's classes be imported from the working directory, as a script beside them would."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


def load_module(path: str, route: str) -> torch.nn.Module:
    """Return the module at this route of a pickled file.

    Raises:
        RunError: the file cannot be loaded, or no module lies there.
        UnsupportedRunError: it holds state dicts only.
    """
    with undisturbed(), importable_from_here(), models_errors(f"{path}: cannot be loaded: "):
        try:
            content = _load_pickle(path)
        except (AttributeError, ImportError) as error:
            raise RunError(f"{path}: cannot be loaded: {_missing(error)}") from error
    found = dict(_modules(content))
    if route in found:
        return found[route]
    if not found:
        raise UnsupportedRunError(
            f"{path}: holds no module, only tensors: name the code that builds it (package.module:factory) and give "
            "this file as --weights"
        )
    raise RunError(f"{path}: no module at {route!r}, there is one at {', '.join(map(repr, list(found)[:5]))}")


def _missing(error: AttributeError | ImportError) -> str:
    """Return what to do about a class that is not here."""
    text = one_line(error)
    if "__main__" in text:
        name = next(iter(re.findall(r"attribute '(\w+)'", text)), "its class")
        return (
            f"{name} was defined in the script that saved it: save it from a module that can be imported, or name that "
            "module's factory and give this file as --weights"
        )
    return f"{text}: install what defines it, or run where it can be imported"


def _load_pickle(path: str) -> object:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except (RuntimeError, pickle.UnpicklingError) as error:
        if "magic number" not in str(error):
            raise
    with Path(path).open("rb") as stream:
        return pickle.load(stream)


def _modules(root: object) -> Iterator[tuple[str, torch.nn.Module]]:
    """Yield (route, module) for every module of a checkpoint that is not part of another one."""
    import torch

    seen: set[int] = set()
    stack: list[tuple[str, object]] = [("", root)]
    while stack and len(seen) < MAX_OBJECTS:
        route, value = stack.pop()
        if id(value) in seen or isinstance(value, torch.Tensor | str | bytes | type):
            continue
        seen.add(id(value))
        if isinstance(value, torch.nn.Module):
            yield route, value
            continue
        members: list[tuple[object, object]] = []
        if isinstance(value, Mapping):
            members = list(value.items())
        elif isinstance(value, list | tuple | set | frozenset):
            members = list(enumerate(value))
        elif hasattr(value, "__dict__") and not callable(value):
            members = list(vars(value).items())
        stack.extend((join(route, key), member) for key, member in reversed(members))


def state_dicts(path: str, *, trust: bool) -> list[tuple[str, dict[str, torch.Tensor]]]:
    """Return (route, tensors) of every state dict in a file: torch, safetensors, or the index of a sharded one."""
    import torch

    source = Source(Path(path))
    with source:
        index = read_shard_index(source)
        if index is not None:
            merged: dict[str, torch.Tensor] = {}
            for shard in index.shards:
                for _, tensors in state_dicts(str(source.sibling(shard).path), trust=trust):
                    merged.update(tensors)
            return [("", merged)]
        if header_length(source) is not None:
            return [("", {name: _tensor(ref) for name, ref in read_header(source).items()})]
    with undisturbed(), importable_from_here(), models_errors(f"{path}: cannot be loaded: "):
        content = torch.load(path, map_location="cpu", weights_only=not trust)
    return list(_state_dicts(content))


def _tensor(ref: TensorRef) -> torch.Tensor:
    import torch

    data = bytearray(b"".join(ref.chunks(CHUNK_BYTES)))
    dtype = dtype_named(ref.dtype)
    return torch.frombuffer(data, dtype=dtype).reshape(ref.shape) if data else torch.empty(ref.shape, dtype=dtype)


def _state_dicts(root: object) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    import torch

    seen: set[int] = set()
    stack: list[tuple[str, object]] = [("", root)]
    while stack and len(seen) < MAX_OBJECTS:
        route, value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.nn.Module):
            yield route, dict(value.state_dict())
        elif isinstance(value, Mapping):
            tensors = {str(key): item for key, item in value.items() if isinstance(item, torch.Tensor)}
            if tensors:
                yield route, tensors
            stack.extend((join(route, key), item) for key, item in reversed(list(value.items())))
        elif isinstance(value, list | tuple):
            stack.extend((join(route, key), item) for key, item in reversed(list(enumerate(value))))
