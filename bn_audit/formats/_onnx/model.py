"""An ONNX file as a subject."""

from __future__ import annotations

from bn_audit.containers.onnx_file.messages import read_model
from bn_audit.containers.onnx_file.records import ModelRecord
from bn_audit.containers.source import Source
from bn_audit.errors import MalformedFileError, NoModelError
from bn_audit.formats._onnx.assembly import assemble
from bn_audit.formats._onnx.batch_norms import NEWEST_OPERATOR_SET
from bn_audit.formats._onnx.calls import Body
from bn_audit.formats._onnx.norms import read_norms
from bn_audit.formats._onnx.random_calls import random_calls
from bn_audit.formats._onnx.reading import Reading
from bn_audit.formats._onnx.scopes import open_scope
from bn_audit.subject.norm import NormLayer, common_mode
from bn_audit.subject.subject import Facts, Form, Model, Subject


def read_subject(source: Source, format_name: str) -> Subject:
    """Return the one model of a file with its graph; the elements of tensors stay in the file.

    Raises:
        NoModelError: there is no graph in it.
        ArtifactError: it is damaged, contradicts itself, or is larger than what is read here.
    """
    record = read_model(source)
    if record.graph is None:
        raise NoModelError(f"{source.name}: an ONNX file without a graph: export the model again")
    if any(version < 1 for version in record.versions.values()):
        raise MalformedFileError(f"{source.name}: states an impossible version of its operators: export it again")
    body = assemble(source, record, record.graph)
    reading = Reading(source=source, scope=open_scope(body))
    norms = read_norms(reading)
    return Subject(
        source=source.name,
        format=format_name,
        facts=Facts.MODES | Facts.SETTINGS | Facts.VALUES | Facts.GRAPH,
        models=(_model(body, norms),),
        norms=norms,
        random_calls=tuple(random_calls(reading.scope)),
        graphs={"": body.graph},
        unread=_unread(record, reading),
    )


def _model(body: Body, norms: tuple[NormLayer, ...]) -> Model:
    roots = (call.place.root for call in body.calls)
    return Model(
        route="",
        form=Form.GRAPH,
        type_name=next((root for root in roots if root is not None), body.graph.name or None),
        mode=common_mode(norms),
        tensors=tuple(body.graph.constants.values()),
    )


def _unread(record: ModelRecord, reading: Reading) -> tuple[str, ...]:
    notes = []
    version = record.versions.get("", 0)
    if version > NEWEST_OPERATOR_SET:
        notes.append(
            f"opset {version} is newer than {NEWEST_OPERATOR_SET}, the newest this version knows: judged by that"
        )
    if record.trains:
        notes.append("graphs for training beside the graph for inference are not read")
    nodes = list(dict.fromkeys(reading.unfollowed))
    if nodes:
        others = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
        notes.append(f"statistics of {nodes[0]}{others}: constants determine them in a way that is not followed")
    return tuple(notes)
