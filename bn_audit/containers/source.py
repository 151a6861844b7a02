"""A file that is read in ranges, with every range checked and every byte counted."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import BinaryIO, Protocol

from bn_audit.errors import MalformedFileError, MissingTargetError


class Readable(Protocol):
    """Bytes that are read in ranges: a file, or a part of one."""

    @property
    def name(self) -> str:
        """How messages call it."""

    @property
    def size(self) -> int:
        """Size in bytes."""

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`; raise an ArtifactError where they are not there."""


SMALL_FILE_BYTES = 1 << 16
"""A file up to this size is read once and whole: cheaper than the ranges that telling its format apart needs."""


class Source:
    """One regular file, opened on the first read and never written.

    Attributes:
        path: Where the file lies.
        name: How messages call it.
        size: Size in bytes when it was first looked at.
        bytes_read: Bytes read so far, siblings included.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = path
        self.name = name or str(path)
        self._own_bytes = 0
        self._stream: BinaryIO | None = None
        self._whole: bytes | None = None
        self._siblings: dict[str, Source] = {}
        try:
            status = path.stat()
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            raise MissingTargetError(f"{self.name}: cannot be opened ({reason}): check the path") from error
        if not path.is_file():
            raise MissingTargetError(f"{self.name}: not a regular file: name a file or a directory of artifacts")
        self.size = status.st_size

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def bytes_read(self) -> int:
        """Bytes read so far from this file and from the siblings opened through it."""
        return self._own_bytes + sum(sibling.bytes_read for sibling in self._siblings.values())

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`.

        Raises:
            MalformedFileError: the range does not lie within the file.
            MissingTargetError: the file cannot be opened or read.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise MalformedFileError(
                f"{self.name}: truncated or corrupt: bytes {offset} to {offset + length} are needed, "
                f"the file has {self.size}: copy or download it again"
            )
        if self.size > SMALL_FILE_BYTES:
            return self._fetch(offset, length)
        if self._whole is None:
            self._whole = self._fetch(0, self.size)
        return self._whole[offset : offset + length]

    def head(self, length: int) -> bytes:
        """Return the first `length` bytes, or the whole file where it is shorter."""
        return self.read(0, min(length, self.size))

    def sibling(self, name: str) -> Source:
        """Return another file of the same directory tree, such as a shard.

        Raises:
            MalformedFileError: the name leads out of the directory.
            MissingTargetError: the file is not there.
        """
        if name not in self._siblings:
            parts = PurePosixPath(name)
            # Told by the name alone: in the cache of the Hugging Face hub every file is a link to elsewhere.
            if not parts.name or parts.is_absolute() or ".." in parts.parts or any(mark in name for mark in "\\:\x00"):
                raise MalformedFileError(f"{self.name}: names the file {name!r} outside its own directory: not read")
            self._siblings[name] = Source(self.path.parent / parts, str(PurePosixPath(self.name).parent / parts))
        return self._siblings[name]

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        for sibling in self._siblings.values():
            sibling.close()
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def __del__(self) -> None:
        # A report outlives the audit, and loading one of its tensors opens the file again.
        self.close()

    def _fetch(self, offset: int, length: int) -> bytes:
        try:
            stream = self._opened()
            stream.seek(offset)
            data = stream.read(length)
        except OSError as error:
            raise MissingTargetError(f"{self.name}: cannot be read ({error.strerror or error})") from error
        self._own_bytes += len(data)
        if len(data) != length:
            raise MalformedFileError(f"{self.name}: became shorter while it was read: audit it when it is complete")
        return data

    def _opened(self) -> BinaryIO:
        if self._stream is None:
            self._stream = self.path.open("rb", buffering=0)
        return self._stream
