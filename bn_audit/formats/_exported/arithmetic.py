"""Norm layers that a program computes with plain arithmetic: only the names of their tensors show them.

Layers written by hand (BatchRenorm, EvoNorm, running statistics of any kind) leave no batch-norm call. A program that
writes their statistics was exported in training mode; one that only reads them does not say its mode.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace

from bn_audit.formats._exported.flow import Flow
from bn_audit.formats._exported.graph import Call, Program, tensors
from bn_audit.formats._exported.tensors import ProgramTensor
from bn_audit.recognition.description import HeldTensor, ModuleDescription
from bn_audit.recognition.modules import STATISTIC_NAMES, norm_of_module
from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import Mode, ModeOrigin, NormLayer, normalises_with_batch


def arithmetic_norms(
    program: Program, flow: Flow, stored: Mapping[str, ProgramTensor], consumed: AbstractSet[str], model: str
) -> Iterator[NormLayer]:
    """Yield the layers whose statistics the program uses, but for those that a batch-norm call takes (`consumed`)."""
    statistics = {name for name in program.names.values() if _last(name) in STATISTIC_NAMES} - consumed
    if not statistics:
        return
    used, written = _touched(program, flow, statistics)
    trained = {_path(name) for name in statistics & written}
    paths = {_path(name) for name in statistics & (used | written)}
    for description, path in _descriptions(program, stored, paths):
        norm = norm_of_module(description, model=model, path=path)
        if norm is None:
            continue
        is_written = path in trained
        mode = Mode.TRAIN if is_written else Mode.UNKNOWN
        yield replace(
            norm,
            mode=mode,
            mode_origin=ModeOrigin.EXPORTED_ARGUMENT if is_written else ModeOrigin.NOT_RECORDED,
            uses_batch_statistics=normalises_with_batch(norm.kind, mode, running_statistics=True),
            confidence=Confidence.MEDIUM,
        )


def _touched(program: Program, flow: Flow, statistics: AbstractSet[str]) -> tuple[set[str], set[str]]:
    """Return which of the statistics the calls of a program take, and which the program writes."""
    used: set[str] = set()
    written = set(program.mutated)
    for call in program.calls:
        for position, value in enumerate(_inputs(program, call)):
            name = flow.name(value)
            if name is not None and name in statistics:
                used.add(name)
                if position == 0 and call.op.endswith("_"):  # torch's operators that write their first argument
                    written.add(name)
    return used, written


def _inputs(program: Program, call: Call) -> Iterator[str]:
    return tensors(program.reader, [value for _, value in call.arguments], call.scope)


def _descriptions(
    program: Program, stored: Mapping[str, ProgramTensor], paths: AbstractSet[str]
) -> Iterator[tuple[ModuleDescription, str]]:
    held: dict[str, tuple[dict[str, HeldTensor | None], dict[str, HeldTensor | None]]] = {}
    for name, tensor in stored.items():
        if _path(name) in paths:
            buffers, parameters = held.setdefault(_path(name), ({}, {}))
            target = parameters if tensor.is_parameter else buffers
            target[_last(name)] = HeldTensor(ref=tensor.ref, requires_grad=tensor.requires_grad)
    for path, (buffers, parameters) in held.items():
        type_name = program.modules.types.get(path, "")
        yield ModuleDescription(type_name=type_name, attributes={}, parameters=parameters, buffers=buffers), path


def _path(name: str) -> str:
    return name.rpartition(".")[0]


def _last(name: str) -> str:
    return name.rpartition(".")[2]
