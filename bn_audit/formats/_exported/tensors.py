"""Parameters, buffers and constants of an exported program, headers only.

Since torch 2.9 each storage is a member of its own, described by a JSON file. Before, the state dict is a file of
``torch.save`` within the archive.

Source: torch 2.13 ``export/pt2_archive/_package.py`` (``_load_state_dict``) and ``_package_weights.py``, whose members
hold the bytes of whole storages; ``_export/serde/schema.py`` (ScalarType, Layout, TensorMeta).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bn_audit.containers.archive import Archive
from bn_audit.containers.byte_range import range_of_source
from bn_audit.containers.inert import Instance
from bn_audit.containers.source import Source
from bn_audit.containers.strided import check_extent, contiguous_bytes, ranged_reader
from bn_audit.containers.torch_file.reading import read_torch_archive
from bn_audit.errors import LimitExceededError, MalformedFileError, TensorUnavailableError
from bn_audit.formats._exported.document import Json, Reader, encodable, is_integer, read_json, size_of
from bn_audit.subject.tensor import ITEM_SIZES, TensorRef

MAX_TENSOR_BYTES = 64 << 20
"""Largest tensor that is loaded; the tensors of a norm layer have some kilobytes."""

MAX_DIMENSIONS = 64
"""As many as PyTorch allows."""

_STRIDED = 7

_DTYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    9: "complex32",
    10: "complex64",
    11: "complex128",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
    29: "float8_e4m3fn",
    30: "float8_e5m2",
    31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz",
    33: "float8_e8m0fnu",
    34: "uint32",
    35: "uint64",
}
"""The schema's numbers, which are not those of c10."""


def dtype_name(number: object) -> str | None:
    """Return PyTorch's name of an element type; None for a number that stands for none."""
    return _DTYPES.get(number) if is_integer(number) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramTensor:
    """A tensor of the program.

    Attributes:
        requires_grad: None where not recorded.
        place: Equal for tensors that share their elements; None where there are no bytes.
    """

    ref: TensorRef
    is_parameter: bool
    requires_grad: bool | None
    place: object


def read_payloads(source: Source, archive: Archive, config: str, directory: str) -> dict[str, ProgramTensor]:
    """Return the tensors that a JSON file describes, by name.

    Args:
        config: The member that describes them.
        directory: Where their bytes lie, with its slash.

    Raises:
        MalformedFileError: a tensor does not lie within its member.
    """
    reader, document = read_json(archive, config)
    big_endian = _is_big_endian(archive)
    found = {}
    for name, value in reader.mapping(document.get("config"), "config").items():
        payload = reader.mapping(value, "an entry")
        if payload.get("tensor_meta") is None:
            continue
        meta = reader.mapping(payload["tensor_meta"], "tensor_meta")
        member = directory + reader.text(payload.get("path_name"), "path_name")
        ref = _payload(source, archive, reader, encodable(name), meta, member, payload.get("use_pickle"), big_endian)
        requires_grad = meta.get("requires_grad")
        found[ref.name] = ProgramTensor(
            ref=ref,
            is_parameter=payload.get("is_param") is True,
            requires_grad=requires_grad if isinstance(requires_grad, bool) else None,
            place=(member, size_of(meta.get("storage_offset")), ref.shape),
        )
    return found


def _payload(
    source: Source,
    archive: Archive,
    reader: Reader,
    name: str,
    meta: Json,
    member: str,
    use_pickle: object,
    big_endian: bool,
) -> TensorRef:
    called = f"{reader.name}: {name}"
    shape = _sizes(reader, meta.get("sizes"), f"sizes of {name}")
    strides = _sizes(reader, meta.get("strides"), f"strides of {name}")
    offset = size_of(meta.get("storage_offset"))
    dtype = dtype_name(meta.get("dtype")) or "unknown"
    stored = archive.members.get(member)
    why = _unavailable_reason(dtype, meta.get("layout"), use_pickle)
    if stored is None:
        raise MalformedFileError(f"{called}: truncated or corrupt: the archive has no member {member}")
    if why is None and stored.size == 0 and 0 not in shape:
        why = "it was exported from a fake tensor, without values"
    if why is not None:
        return TensorRef(name=name, dtype=dtype, shape=shape, load=_unavailable(f"{called}: {why}"))
    if not is_integer(offset):
        raise reader.error(f"storage_offset of {name}", "a number", meta.get("storage_offset"))
    size = ITEM_SIZES[dtype]
    check_extent(name=called, size=size, shape=shape, strides=strides, offset=offset, storage_bytes=stored.size)

    def load() -> bytes:
        if size * ref.numel > MAX_TENSOR_BYTES:
            raise LimitExceededError(
                f"{called}: {size * ref.numel} bytes, more than the {MAX_TENSOR_BYTES} loaded here"
            )
        start, length = archive.stored_range(member)
        return contiguous_bytes(
            lambda position, count: source.read(start + position, count),
            name=called,
            dtype=dtype,
            shape=shape,
            strides=strides,
            offset=offset,
            storage_bytes=length,
            big_endian=big_endian,
        )

    def stored_bytes(position: int, count: int) -> bytes:
        return source.read(archive.stored_range(member)[0] + position, count)

    read = ranged_reader(
        stored_bytes, name=called, size=size, shape=shape, strides=strides, offset=offset, big_endian=big_endian
    )
    ref = TensorRef(name=name, dtype=dtype, shape=shape, load=load, read=read)
    return ref


def _unavailable_reason(dtype: str, layout: object, use_pickle: object) -> str | None:
    if use_pickle is True:
        return "it is a tensor subclass, stored as a pickle"
    if layout != _STRIDED:
        return "its layout is not strided: save it as a dense tensor"
    return "its dtype has no real value to judge" if dtype == "unknown" else None


def _unavailable(message: str) -> Callable[[], bytes]:
    def load() -> bytes:
        raise TensorUnavailableError(message)

    return load


def _sizes(reader: Reader, value: object, what: str) -> tuple[int, ...]:
    sizes = []
    for item in reader.sequence(value, what):
        size = size_of(item)
        if not isinstance(size, int) or size < 0:
            raise reader.error(what, "a list of sizes", item)
        sizes.append(size)
    if len(sizes) > MAX_DIMENSIONS:
        raise reader.error(what, f"a list of at most {MAX_DIMENSIONS} sizes", value)
    return tuple(sizes)


def _is_big_endian(archive: Archive) -> bool:
    member = f"{archive.root}byteorder"
    return member in archive and archive.read(member, limit=64).strip() == b"big"


def read_state_dict(source: Source, archive: Archive, member: str) -> dict[str, ProgramTensor]:
    """Return the tensors of a dict that ``torch.save`` wrote into a member, by name.

    Raises:
        MalformedFileError: it is no such file, or its content is no dict.
    """
    offset, length = archive.stored_range(member)
    if length == 0:
        return {}
    part = range_of_source(source, offset, length)
    content = read_torch_archive(part, Archive(part))
    if not isinstance(content.root, Mapping):
        raise MalformedFileError(f"{source.name}: {member} holds no state dict: export the program again")
    found = {}
    for key, value in content.root.items():
        if not isinstance(key, str) or not isinstance(value, Instance):
            continue
        tensor = content.tensor(value, f"{source.name}: {key}")
        if tensor is not None:
            name = encodable(key)
            found[name] = ProgramTensor(
                ref=tensor.ref(name),
                is_parameter=tensor.is_parameter,
                requires_grad=tensor.requires_grad,
                place=None if tensor.storage is None else (tensor.storage, tensor.shape),
            )
    return found
