"""Repairs of ONNX graphs: batch norms in training form, live dropout, a batch size that is built in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from bn_audit.containers.target import FileTarget
from bn_audit.errors import (
    ArtifactError,
    LimitExceededError,
    MalformedFileError,
    MissingTargetError,
    UsageError,
)
from bn_audit.repair.changes import Change, Repair
from bn_audit.repair.onnx_batch import free_batch_size
from bn_audit.repair.pickled import NAMED
from bn_audit.runners._onnx.batch_norms import batch_norms, set_mode
from bn_audit.runners._onnx.loading import MAX_MESSAGE_BYTES, copied, opset_of
from bn_audit.runners._onnx.naming import bodies, node_names, place
from bn_audit.subject.finding import Location
from bn_audit.subject.norm import NormLayer
from bn_audit.subject.report import Report
from bn_audit.subject.subject import Subject

Proto: TypeAlias = Any
"""A message of the onnx package."""

TRAINING_FORM = ("BN301", "BN302")
DROPOUT = ("BN504", "BN311")
BUILT_IN = ("BN404",)

Keeps = Callable[[Location, str], str | None]
"""Returns, from place and operator, the reason for which a node stays as it is; None where it does not."""

REMEDIES = {
    "BN303": "its outputs contradict its mode: export the model again after eval()",
    "BN304": "its statistics are computed in the graph: export the model again with stored statistics",
}


@dataclass(slots=True, kw_only=True)
class _Work:
    """The graph while it is repaired."""

    proto: Proto
    subject: Subject
    report: Report
    keeps: Keeps
    changes: list[Change] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def places(self, *codes: str) -> set[str]:
        """Return the names of the nodes at which findings with these codes point."""
        found = (finding for finding in self.report.findings if finding.code in codes)
        return {place.node for finding in found for place in finding.locations if place.node}


def repair_graph(
    target: FileTarget, subject: Subject, report: Report, keeps: Keeps, *, free_batch: bool = False
) -> Repair:
    """Return the repair of an ONNX file.

    Args:
        report: The audit of the file: what it finds is repaired, what it acquits is left alone.
        free_batch: Also free a batch size that the file declares honestly.
    """
    proto = _parsed(target)
    work = _Work(proto=proto, subject=subject, report=report, keeps=keeps)
    for code, advice in REMEDIES.items():
        work.refused += [f"{node}: {advice} ({code})" for node in sorted(work.places(code))[:NAMED]]
    _set_norms(work)
    _remove_dropout(work)
    if free_batch or work.places(*BUILT_IN):
        result = free_batch_size(work.proto, target.source)
        if isinstance(result, str):
            work.refused.append(result)
        else:
            work.proto = result.proto
            work.changes.append(Change(path="", what=result.what))
    folder = target.source.path.parent
    return Repair(
        source=target.name,
        format=subject.format,
        changes=tuple(work.changes),
        refused=tuple(work.refused),
        remarks=tuple(work.remarks),
        write=lambda path: _write(work.proto, folder, path),
    )


def _parsed(target: FileTarget) -> Proto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if target.source.size > MAX_MESSAGE_BYTES:
        raise LimitExceededError(f"{target.name}: {target.source.size} bytes in one message, more than protobuf reads")
    try:
        return onnx.load(str(target.source.path), load_external_data=False)
    except DecodeError as error:
        raise MalformedFileError(f"{target.name}: is no ONNX message ({error}): export the model again") from error


def _set_norms(work: _Work) -> None:
    wanted = work.places(*TRAINING_FORM)
    layers = {norm.node: norm for norm in work.subject.norms if norm.node}
    nodes = {norm.node: norm for norm in batch_norms(work.proto, opset_of(work.proto), ())}
    read = {name for node in work.proto.graph.node for name in _read(node)}
    read |= {value.name for value in work.proto.graph.output}
    for name in sorted(wanted, key=lambda name: nodes[name].index if name in nodes else -1):
        norm = nodes.get(name)
        reason = (
            work.keeps(Location(path=norm.path, node=norm.node), "BatchNormalization") if norm is not None else None
        )
        if reason is not None:
            work.remarks.append(f"{name} stays in training form: {reason}")
            continue
        problem = "it lies in a function or body" if norm is None else _unfit(layers.get(name))
        if norm is not None and problem is None:
            taken = [item for item in work.proto.graph.node[norm.index].output[1:] if item in read]
            problem = f"its statistics are used further ({taken[0]})" if taken else None
        if norm is None or problem is not None:
            work.refused.append(f"{name}: {problem}: export the model again after eval()")
            continue
        set_mode(work.proto, opset_of(work.proto), [norm], training=False)
        _drop_declarations(work.proto)
        work.changes.append(
            Change(path=norm.path or name, what="training form -> inference form", type_name="BatchNormalization")
        )


def _unfit(norm: NormLayer | None) -> str | None:
    """Return why a layer's stored statistics cannot take the place of the batch's; None where they can."""
    if norm is None or norm.running_mean is None or norm.running_var is None:
        return "it stores no statistics"
    try:
        means, variances = norm.running_mean.values(), norm.running_var.values()
    except ArtifactError as error:
        return f"its statistics cannot be read ({error})"
    if all(mean == 0 for mean in means) and all(variance == 1 for variance in variances):
        return "its statistics are initial (mean 0, variance 1), so that nothing was learned"
    if not all(abs(value) < float("inf") for value in (*means, *variances)) or min(variances, default=0) < 0:
        return "its statistics are no finite numbers, or a variance is negative"
    return None


def _remove_dropout(work: _Work) -> None:
    wanted = work.places(*DROPOUT)
    names = node_names(work.proto.graph)
    outputs = {value.name for value in work.proto.graph.output}
    read = {name for node in work.proto.graph.node for name in _read(node)}
    inner = {
        name for node in work.proto.graph.node for body in bodies(node) for item in body.node for name in _read(item)
    }
    kept = []
    for node, name in zip(list(work.proto.graph.node), names, strict=True):
        kept.append(node)
        if name not in wanted or node.op_type != "Dropout" or node.domain:
            continue
        where = place(node).path or name
        reason = work.keeps(Location(path=where, node=name), "Dropout")
        if reason is not None:
            work.remarks.append(f"{where} stays switched on: {reason}")
        elif any(item in read or item in outputs for item in node.output[1:] if item):
            work.refused.append(
                f"{name}: the mask of this dropout is used further: export the model again after eval()"
            )
        else:
            work.changes.append(Change(path=where, what="live dropout removed", type_name="Dropout"))
            if node.output[0] in outputs or node.output[0] in inner:
                _become_identity(node)
            else:
                kept.pop()
                _redirect(work.proto, node.output[0], node.input[0])
    copies = [copied(node) for node in kept]
    del work.proto.graph.node[:]
    work.proto.graph.node.extend(copies)
    others = [name for name in wanted if name not in names]
    work.refused += [f"{name}: this dropout lies in a function or body: export again after eval()" for name in others]


def _become_identity(node: Proto) -> None:
    first_input, first_output = node.input[0], node.output[0]
    del node.input[:], node.output[:], node.attribute[:]
    node.op_type = "Identity"
    node.input.append(first_input)
    node.output.append(first_output)


def _redirect(proto: Proto, old: str, new: str) -> None:
    for node in proto.graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new


def _drop_declarations(proto: Proto) -> None:
    """Forget the declared shapes of values that no node makes any more."""
    made = {name for node in proto.graph.node for name in node.output}
    kept = [copied(value) for value in proto.graph.value_info if value.name in made]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(kept)


def _read(node: Proto) -> Iterator[str]:
    yield from node.input
    for body in bodies(node):
        yield from (value.name for value in body.output)
        for inner in body.node:
            yield from _read(inner)


def _write(proto: Proto, folder: Path, path: Path) -> None:
    """Write the message; weights in files beside the source are copied beside the result where that is elsewhere."""
    if path.resolve().parent != folder.resolve():
        for name in sorted(set(_external(proto))):
            if not name or Path(name).is_absolute() or ".." in Path(name).parts:
                raise MalformedFileError(f"{folder}: its weights lie in {name!r}, outside its own folder: not copied")
            _copy_beside(folder / name, path.parent / name)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(proto.SerializeToString())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _external(proto: Proto) -> Iterator[str]:
    for tensor in proto.graph.initializer:
        if tensor.data_location == 1:
            yield next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def _copy_beside(source: Path, copy: Path) -> None:
    if not source.is_file():
        raise MissingTargetError(f"{source}: the weights of the model are not there: fetch them too")
    if copy.exists():
        raise UsageError(f"{copy}: exists already: write the repaired model to a folder of its own")
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, copy)
