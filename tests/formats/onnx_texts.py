"""Models in ONNX's own text form, read by the audit."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import parser

from bn_audit.audit import read_subject
from bn_audit.subject.subject import Subject

VECTORS = "<float[3] s = {1,2,3}, float[3] b = {4,5,6}, float[3] m = {7,8,9}, float[3] v = {10,11,12}>"


def parsed(text: str, directory: Path) -> Subject:
    """Return what is read of a model in ONNX's own text form."""
    model = parser.parse_model(text)
    return subject_of(model, directory)


def subject_of(model: onnx.ModelProto, directory: Path) -> Subject:
    """Return what is read of a model that is written to a directory."""
    path = directory / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with read_subject(path) as subject:
        return subject


def head(opset: int = 18) -> str:
    """Return the header of a model with one more domain, ``local``."""
    return f'<ir_version: 9, opset_import: ["" : {opset}, "local" : 1]>'
