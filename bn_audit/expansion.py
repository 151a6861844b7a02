"""From what the user typed to the files to audit: directories, globs, factories."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from glob import has_magic, iglob
from pathlib import Path

from bn_audit.containers.shards import read_shard_index
from bn_audit.containers.source import Source
from bn_audit.errors import ArtifactError, NoModelError, UnsupportedFormatError, UsageError

ARTIFACT_SUFFIXES = frozenset(
    (
        *(".pt", ".pth", ".pt2", ".ptl", ".ckpt", ".bin", ".pkl"),
        *(".pickle", ".safetensors", ".onnx", ".th", ".tar", ".model", ".torchscript", ".joblib"),
        *(".pyth", ".jit", ".ckp", ".chkpt", ".weights"),
    )
)
"""Suffixes that model files of the formats known here bear; what is inside decides all the same."""

MUST_READ_SUFFIXES = frozenset(
    {".pt", ".pth", ".pt2", ".ptl", ".ckpt", ".safetensors", ".onnx", ".torchscript", ".pyth"}
)
"""Suffixes that promise a model: in a directory such a file that cannot be read is a failure, not a passer-by."""

_MUST_READ_NAME = re.compile(r".*\.pth\.tar|(?:.*[_-])?model(?:[._-].*)?\.bin", re.IGNORECASE)
"""Names that promise one under a suffix that does not: those of PyTorch's examples and of the Hugging Face Hub."""

FOREIGN_SUFFIXES = frozenset(
    (
        *(".distcp", ".keras", ".h5", ".hdf5", ".pb", ".tflite", ".mlmodel"),
        *(".engine", ".plan", ".gguf", ".npz", ".mpk", ".bpk"),
        *(".nemo", ".mar", ".pdparams", ".pte", ".ort"),
    )
)
"""Suffixes of formats that are named, though not read."""

SKIPPED_DIRECTORIES = frozenset({"site-packages", "dist-packages", "node_modules", "__pycache__"})

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One thing to audit.

    Attributes:
        name: Path or factory.
        is_named: True where the user named it, False where it was found in a directory.
    """

    name: str
    is_named: bool

    def is_optional(self, error: ArtifactError) -> bool:
        """Return whether the file may be listed instead of failing the run for `error`."""
        if self.is_named:
            return False
        if isinstance(error, NoModelError | UnsupportedFormatError):
            return True
        path = Path(self.name)
        return path.suffix.lower() not in MUST_READ_SUFFIXES and not _MUST_READ_NAME.fullmatch(path.name)


def is_factory(target: str) -> bool:
    """Return whether `target` is of the form ``package.module:factory`` and no file of that name exists."""
    return _FACTORY.match(target) is not None and not Path(target).exists()


def expand(targets: Sequence[str]) -> tuple[list[Candidate], list[tuple[str, str]]]:
    """Return the candidates in order, each once, and (file, reason) for files that are read as part of another.

    A name that does not exist stays a candidate, so that the audit reports it as missing.
    """
    candidates: dict[str, Candidate] = {}
    for target in targets:
        for name, is_named in _expand_one(target):
            candidates.setdefault(name, Candidate(name=name, is_named=is_named))
    shards = _shards(candidates)
    listed = [
        (name, f"a shard, read through {shards[name]}")
        for name, candidate in candidates.items()
        if name in shards and not candidate.is_named
    ]
    for name, _reason in listed:
        del candidates[name]
    return list(candidates.values()), listed


def single(target: str) -> str:
    """Return the one artifact that a side of a comparison names: itself, or the only one of a directory or glob.

    Raises:
        UsageError: a directory or glob with none or several; a directory of shards has one, their index.
    """
    path = Path(target)
    if not path.is_dir() and (path.exists() or not has_magic(target)):
        return target
    candidates, _listed = expand([target])
    if len(candidates) == 1:
        return candidates[0].name
    found = ", ".join(Path(candidate.name).name for candidate in candidates[:3]) or "none"
    more = ", ..." if len(candidates) > 3 else ""
    raise UsageError(f"{target}: holds {len(candidates)} artifacts ({found}{more}): name the one to compare")


def _expand_one(target: str) -> Iterator[tuple[str, bool]]:
    path = Path(target)
    if path.is_dir():
        for found in _walk(target):
            yield found, False
    elif has_magic(target) and not path.exists():
        matches = sorted(iglob(target, recursive=True))
        for match in matches:
            if Path(match).is_dir():
                yield from ((name, False) for name in _walk(match))
            else:
                yield match, True
        if not matches:
            yield target, True
    else:
        yield target, True


def _walk(directory: str) -> Iterator[str]:
    for root, folders, files in os.walk(directory):
        folders[:] = sorted(name for name in folders if not _is_skipped(Path(root, name)))
        for name in sorted(files):
            suffixes = ARTIFACT_SUFFIXES | FOREIGN_SUFFIXES
            if not name.startswith(".") and (Path(name).suffix.lower() in suffixes or name.endswith(".index.json")):
                yield str(Path(root, name))


def _is_skipped(folder: Path) -> bool:
    is_environment = (folder / "pyvenv.cfg").exists() or (folder / "conda-meta").is_dir()
    return folder.name.startswith(".") or folder.name in SKIPPED_DIRECTORIES or is_environment


def _shards(names: Iterable[str]) -> dict[str, str]:
    """Return each shard among `names` with the index that names it."""
    shards = {}
    for name in names:
        if not name.endswith(".index.json"):
            continue
        try:
            index = read_shard_index(Source(Path(name)))
        except ArtifactError:
            continue  # the audit of the index itself reports what is wrong with it
        for shard in index.shards if index else ():
            shards[str(Path(name).parent / shard)] = name
    return shards
