"""ONNX models: graphs of operators with their weights, embedded or in files beside them.

Nothing is run, no library of ONNX is needed, and no weight is read but those of norm layers. The mode of a batch norm
follows from the operator set, the attributes, the number of outputs and where the statistics come from; no one of
these is enough.

Source: onnx/onnx.proto, docs/IR.md and docs/ExternalData.md of ONNX 1.23.
"""

from __future__ import annotations

from bn_audit.containers.target import FileTarget, Target
from bn_audit.errors import NoModelError
from bn_audit.interfaces import Format
from bn_audit.subject.subject import Subject

NAME = "onnx"

_FIRST_BYTES = frozenset(b"\x08\x12\x1a\x22\x28\x32\x3a\x42\x72\xa2\xca\xd2")
"""The first byte of each field that a model may begin with; few other files begin with one."""


def sniff(target: Target) -> bool:
    """Return whether the file is a message as ONNX models are."""
    if not isinstance(target, FileTarget) or target.head[:1] == b"" or target.head[0] not in _FIRST_BYTES:
        return False
    from bn_audit.containers.onnx_file.sniff import is_model  # every check sniffs, few files come this far

    return is_model(target.source)


def read(target: Target) -> Subject:
    """Return the model of the file with its graph; the elements of tensors stay in the file.

    Raises:
        NoModelError: there is no graph in it.
        ArtifactError: it is damaged, contradicts itself, or is larger than what is read here.
    """
    if not isinstance(target, FileTarget):
        raise NoModelError(f"{target.name}: not a file")
    from bn_audit.formats._onnx.model import read_subject  # every check sniffs, few read this format

    return read_subject(target.source, NAME)


FORMAT = Format(
    name=NAME,
    summary="ONNX models of every operator set, with embedded or external weights",
    tells="the mode of each batch norm by the rules of its operator set, its settings and tensors, live dropout",
    cannot_tell="layers that the exporter folded into convolutions or wrote as other arithmetic",
    sniff=sniff,
    read=read,
)
