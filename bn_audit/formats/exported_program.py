"""Programs written by ``torch.export.save`` (``.pt2``): the graph as JSON, read without torch.

Two layouts: today's archive (torch 2.8 and later) with any number of models, and the flat one before it with a single
model. The graph decides the mode of each layer: ``eval()`` changes nothing after the export, and a list of mutated
buffers proves nothing, since it can be empty for a program in training form.

Source: torch 2.13 ``export/pt2_archive/_package.py`` and ``export/__init__.py`` (``load``, both layouts),
``csrc/export/pt2_archive_constants.h``.
"""

from __future__ import annotations

from bn_audit.containers.target import FileTarget, Target
from bn_audit.errors import NoModelError
from bn_audit.formats._exported.layout import FLAT_PROGRAM, model_names
from bn_audit.interfaces import Format
from bn_audit.subject.subject import Subject

NAME = "exported-program"


def sniff(target: Target) -> bool:
    """Return whether the file is an archive with an exported program in either layout."""
    if not isinstance(target, FileTarget) or target.archive is None:
        return False
    return FLAT_PROGRAM in target.archive or bool(model_names(target.archive))


def read(target: Target) -> Subject:
    """Return every program of the archive; nothing in it is run, and no pickle of example inputs is opened.

    Raises:
        NoModelError: there is none in it.
        ArtifactError: it is damaged, or larger than what is read here.
    """
    if not isinstance(target, FileTarget) or target.archive is None:
        raise NoModelError(f"{target.name}: no archive, so no exported program")
    from bn_audit.formats._exported.reading import read_programs  # every check sniffs, few read this format

    return read_programs(target, target.archive, format_name=NAME)


FORMAT = Format(
    name=NAME,
    summary="programs of torch.export.save (.pt2), today's archive and the layout of torch 2.1 to 2.7",
    tells="the mode of each batch norm that will run, its settings and tensors, live dropout and random operators",
    cannot_tell="mode and settings of layers written as plain arithmetic, code compiled ahead of time",
    sniff=sniff,
    read=read,
)
