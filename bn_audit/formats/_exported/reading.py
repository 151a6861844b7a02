"""Reads the programs of an archive: their graphs, tensors, norm layers and random calls."""

from __future__ import annotations

from dataclasses import dataclass

from bn_audit.containers.archive import Archive
from bn_audit.containers.source import Source
from bn_audit.containers.target import FileTarget
from bn_audit.errors import MalformedFileError, NoModelError
from bn_audit.formats._exported.document import Json, Reader, encodable, read_json
from bn_audit.formats._exported.graph import Program, read_program
from bn_audit.formats._exported.graphs import Document, Graphs
from bn_audit.formats._exported.layout import FLAT_PROGRAM, model_names
from bn_audit.formats._exported.norms import read_norms
from bn_audit.formats._exported.randomness import random_calls
from bn_audit.formats._exported.tensors import ProgramTensor, read_payloads, read_state_dict
from bn_audit.subject.norm import NormLayer, common_mode
from bn_audit.subject.subject import Facts, Form, Model, RandomCall, Subject

_OPAQUE_CALLS = frozenset(("executorch_call_delegate", "aoti_call_delegate", "triton_kernel_wrapper_functional"))


def read_programs(target: FileTarget, archive: Archive, *, format_name: str) -> Subject:
    """Return every program of the archive; see the format's ``read``."""
    source = target.source
    if FLAT_PROGRAM in archive:
        parts = [_read_flat(source, archive)]
    else:
        names = model_names(archive)
        if not names:
            raise NoModelError(f"{target.name}: the archive holds no exported program")
        parts = [_read_packaged(source, archive, name, "" if names == ["model"] else name) for name in names]
    return Subject(
        source=target.name,
        format=format_name,
        facts=Facts.MODES | Facts.SETTINGS | Facts.VALUES | Facts.GRAPH | _gradients(parts),
        models=tuple(part.model for part in parts),
        norms=tuple(norm for part in parts for norm in part.norms),
        random_calls=tuple(call for part in parts for call in part.random_calls),
        graphs=Graphs({part.model.route: part.document for part in parts}),
        unread=_unread(archive, parts),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What one program of the archive adds to the subject."""

    model: Model
    norms: tuple[NormLayer, ...]
    random_calls: tuple[RandomCall, ...]
    opaque: tuple[str, ...]
    document: Document


def _read_packaged(source: Source, archive: Archive, name: str, route: str) -> _Part:
    program = _read_program(archive, f"{archive.root}models/{name}.json")
    weights = _stored(source, archive, f"{archive.root}data/weights/", f"{name}_weights_config.json", f"{name}.pt")
    constants = _stored(
        source, archive, f"{archive.root}data/constants/", f"{name}_constants_config.json", f"{name}.pt"
    )
    return _part(program, encodable(route), weights, constants)


def _read_flat(source: Source, archive: Archive) -> _Part:
    program = _read_program(archive, FLAT_PROGRAM)
    stored: list[dict[str, ProgramTensor]] = []
    for stem in ("serialized_state_dict", "serialized_constants"):
        # The suffix .json of torch 2.1 is a misnomer: the content is a file of torch.save in either case.
        members = [member for member in (f"{stem}.pt", f"{stem}.json") if member in archive]
        stored.append(read_state_dict(source, archive, members[0]) if members else {})
    return _part(program, "", *stored)


def _read_program(archive: Archive, member: str) -> tuple[Reader, Json, Program]:
    reader, document = read_json(archive, member)
    return reader, document, read_program(reader, document)


def _stored(source: Source, archive: Archive, directory: str, config: str, legacy: str) -> dict[str, ProgramTensor]:
    if directory + config in archive:
        return read_payloads(source, archive, directory + config, directory)
    if directory + legacy in archive:
        return read_state_dict(source, archive, directory + legacy)
    raise MalformedFileError(f"{source.name}: truncated or corrupt: the archive has no member {directory}{config}")


def _part(
    parsed: tuple[Reader, Json, Program],
    route: str,
    weights: dict[str, ProgramTensor],
    constants: dict[str, ProgramTensor],
) -> _Part:
    reader, document, program = parsed
    stored = constants | weights
    norms = read_norms(program, stored, route)
    gradients = [tensor.requires_grad for tensor in weights.values() if tensor.is_parameter]
    model = Model(
        route=route,
        form=Form.GRAPH,
        type_name=_root_type(program),
        mode=common_mode(norms),
        modules=program.modules.nodes(),
        tensors=tuple(tensor.ref for tensor in weights.values()),
        takes_gradients=None if not gradients or None in gradients else any(gradients),
    )
    return _Part(
        model=model,
        norms=norms,
        random_calls=tuple(random_calls(program, route)),
        opaque=tuple(call.node for call in program.calls if call.op in _OPAQUE_CALLS),
        document=(reader, document, {name: tensor.ref for name, tensor in stored.items()}),
    )


def _root_type(program: Program) -> str | None:
    """Return the class of the root; the exporter's own wrapper around some models tells nothing."""
    found = program.modules.types.get("")
    return None if found is None or found.startswith("torch.export.") else found


def _gradients(parts: list[_Part]) -> Facts:
    recorded = any(part.model.takes_gradients is not None for part in parts)
    return Facts.GRADIENTS if recorded else Facts.NONE


def _unread(archive: Archive, parts: list[_Part]) -> tuple[str, ...]:
    notes = [f"compiled code called by {node} is not read" for part in parts for node in part.opaque]
    for directory in ("data/aotinductor/", "data/executorch/"):
        if any(name.startswith(archive.root + directory) for name in archive.members):
            notes.append(f"{directory}: compiled code, not read")
    return tuple(notes)
