"""What the user asked to audit, opened as far as telling the formats apart needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from bn_audit.containers.archive import Archive
from bn_audit.containers.shards import ShardIndex, read_shard_index
from bn_audit.containers.source import Source
from bn_audit.errors import MalformedFileError
from bn_audit.subject.subject import Subject

HEAD_BYTES = 4096
"""How much of the start of a file the formats may look at to recognise it."""


class FileTarget:
    """A file; its head and its zip directory are read once and shared by every format."""

    def __init__(self, source: Source) -> None:
        self.source = source

    @property
    def name(self) -> str:
        """How messages call the target."""
        return self.source.name

    @cached_property
    def head(self) -> bytes:
        """The first bytes of the file, at most `HEAD_BYTES`."""
        return self.source.head(HEAD_BYTES)

    @cached_property
    def archive(self) -> Archive | None:
        """The file as a zip archive; None where it is none.

        Raises:
            MalformedFileError: it begins as a zip archive, but is truncated or corrupt.
        """
        if self.head[:4] not in (b"PK\x03\x04", b"PK\x05\x06"):
            return None
        if self.head[:4] == b"PK\x05\x06" or not self.source.size:
            raise MalformedFileError(f"{self.name}: an empty zip archive")
        return Archive(self.source)

    @cached_property
    def shard_index(self) -> ShardIndex | None:
        """The file as the index of a sharded checkpoint; None where it is none."""
        return read_shard_index(self.source)


@dataclass(frozen=True, slots=True, kw_only=True)
class FactoryTarget:
    """A Python callable or object, ``package.module:name``, that gives the model; importing it runs its code.

    Attributes:
        spec: As the user wrote it.
        weights: A state dict to judge in the model's place, already read.
        without_memory: Build it without values where that is possible, so that its size does not matter.
    """

    spec: str
    weights: Subject | None = None
    without_memory: bool = False

    @property
    def name(self) -> str:
        """How messages call the target."""
        return self.spec


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleTarget:
    """A live ``torch.nn.Module`` given to the Python API."""

    module: object
    weights: Subject | None = None

    @property
    def name(self) -> str:
        """How messages call the target."""
        return f"<{type(self.module).__module__}.{type(self.module).__qualname__}>"


Target = FileTarget | FactoryTarget | ModuleTarget
"""Everything that can be audited."""
