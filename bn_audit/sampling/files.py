"""Real samples from ``.npz``, ``.npy`` and ``.safetensors`` files; nothing in them is executed.

Source: NumPy 2.3 ``numpy/lib/_format_impl.py`` for the header of ``.npy``; an ``.npz`` is a zip archive of such files.
"""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from bn_audit.containers.safetensors_header import header_length, read_header
from bn_audit.containers.source import Source
from bn_audit.errors import LimitExceededError, MalformedFileError
from bn_audit.sampling.dtypes import NAMES, SMALL_FLOATS, numpy_dtype
from bn_audit.subject.run import Array
from bn_audit.subject.tensor import TensorRef

MAX_BYTES = 2 << 30
"""Of all arrays of one file together: more than a thousand images, less than what makes a machine swap."""

MAX_HEADER_BYTES = 10_000
"""NumPy's own limit: a header is parsed as Python literals."""

_CHUNK_BYTES = 32 << 20
_KINDS = "biufcV"


def read_samples(path: str) -> dict[str, Array]:
    """Return the arrays of a file by name; an array of a ``.npy`` has the name ``""``.

    The content decides, not the suffix. bfloat16 and float8 arrays of numpy files, which numpy writes as plain bytes,
    keep that type until they meet their input.

    Raises:
        MissingTargetError: the file cannot be opened.
        MalformedFileError: it is of none of the three kinds, is corrupt, or holds Python objects.
        LimitExceededError: its arrays take more than `MAX_BYTES`.
    """
    with Source(Path(path), path) as source:
        head = source.head(8)
        if head.startswith(npy.MAGIC_PREFIX):
            found = {"": _from_npy(source)}
        elif head.startswith(b"PK"):
            found = _from_npz(source)
        elif header_length(source) is not None:
            found = _from_safetensors(source)
        else:
            raise MalformedFileError(f"{path}: is no .npz, .npy or .safetensors file: save the samples as one of these")
    if not found:
        raise MalformedFileError(f"{path}: holds no array: save the samples under the names of the inputs")
    return found


def _from_npy(source: Source) -> Array:
    _limit(source.name, source.size)
    return _array(io.BytesIO(source.read(0, source.size)), source.size, source.name)


def _from_npz(source: Source) -> dict[str, Array]:
    found: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(source.path) as archive:
            _limit(source.name, sum(member.file_size for member in archive.infolist()))
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as stream:
                    found[name] = _array(stream, member.file_size, f"{source.name}: {name!r}")
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError) as error:
        raise MalformedFileError(
            f"{source.name}: corrupt archive ({error}): write it again with numpy.savez"
        ) from error
    return found


def _array(stream: BinaryIO | Any, size: int, where: str) -> Array:
    """Return one array; its header is checked against the bytes that are there before memory is taken for it."""
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(stream, max_header_size=MAX_HEADER_BYTES)
        if dtype.hasobject or dtype.names is not None or dtype.kind not in _KINDS:
            raise MalformedFileError(f"{where}: holds elements of type {dtype}, not numbers: save plain arrays")
        needed = math.prod(shape) * dtype.itemsize
        if needed > size or any(type(length) is not int or length < 0 for length in shape):
            raise MalformedFileError(f"{where}: truncated: its header promises {needed} bytes, there are {size}")
        data = stream.read(needed)
    except (ValueError, TypeError, SyntaxError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MalformedFileError(f"{where}: corrupt array ({reason}): write it again with numpy.save") from error
    if len(data) != needed:
        raise MalformedFileError(f"{where}: truncated: {needed} bytes are needed, there are {len(data)}")
    elements = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return np.ascontiguousarray(elements.astype(dtype.newbyteorder("="), copy=False)).reshape(shape)


def _from_safetensors(source: Source) -> dict[str, Array]:
    tensors = read_header(source)
    _limit(source.name, source.size)
    return {name: _tensor(source, ref) for name, ref in tensors.items()}


def _tensor(source: Source, ref: TensorRef) -> Array:
    if ref.dtype not in NAMES:
        raise MalformedFileError(
            f"{source.name}: {ref.name!r} is of type {ref.dtype}, which no input here takes: convert it"
        )
    stored = numpy_dtype(ref.dtype)
    if ref.dtype not in SMALL_FLOATS:
        stored = stored.newbyteorder("<")
    data = b"".join(ref.chunks(_CHUNK_BYTES)) if ref.numel else b""
    elements = np.frombuffer(data, stored).reshape(ref.shape)
    return elements if ref.dtype in SMALL_FLOATS else elements.astype(stored.newbyteorder("="), copy=False)


def _limit(name: str, size: int) -> None:
    if size > MAX_BYTES:
        raise LimitExceededError(f"{name}: its arrays take {size} bytes, more than {MAX_BYTES}: save fewer samples")
