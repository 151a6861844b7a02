"""TorchScript archives written by ``torch.jit.save``: scripted, traced, frozen, and mixes of these.

The module tree and its saved flags come from ``data.pkl``; which norm operators run, and in which mode, comes from
following the serialised code from ``forward``. Nothing is executed and torch is not needed.

Sources: torch/csrc/jit/docs/serialization.md; torch/csrc/jit/serialization/{export_module,python_print,pickler}.cpp.
"""

from __future__ import annotations

from bn_audit.containers.archive import Archive
from bn_audit.containers.target import FileTarget, Target
from bn_audit.errors import ArtifactError, MalformedFileError, UnsupportedFormatError
from bn_audit.interfaces import Format
from bn_audit.subject.subject import Subject

NAME = "torchscript"


def sniff(target: Target) -> bool:
    """Return whether the target is a TorchScript archive, of any version and for any interpreter."""
    if not isinstance(target, FileTarget):
        return False
    archive = target.archive
    return archive is not None and (_has_code(archive) or _is_mobile(archive) or _is_old(archive))


def read(target: Target) -> Subject:
    """Return the one model of the archive.

    Raises:
        UnsupportedFormatError: an archive of torch before 1.4, or one with bytecode alone.
        MalformedFileError: truncated, corrupt or inconsistent.
        LimitExceededError: larger or deeper than this tool reads.
    """
    archive = target.archive if isinstance(target, FileTarget) else None
    if not isinstance(target, FileTarget) or archive is None:
        raise MalformedFileError(f"{target.name}: no TorchScript archive")
    if not _has_code(archive):
        raise _unsupported(target.name, archive)
    from bn_audit.formats._torchscript.reading import read_archive  # every check sniffs, few read this format

    try:
        return read_archive(target, archive, format_name=NAME)
    except ArtifactError as error:
        if target.name in str(error):
            raise
        raise type(error)(f"{target.name}: {error}") from error


def _has_code(archive: Archive) -> bool:
    prefix = f"{archive.root}code/"
    return f"{archive.root}constants.pkl" in archive and any(name.startswith(prefix) for name in archive.members)


def _is_mobile(archive: Archive) -> bool:
    return f"{archive.root}bytecode.pkl" in archive and f"{archive.root}data.pkl" in archive


def _is_old(archive: Archive) -> bool:
    prefix = f"{archive.root}code/"
    return f"{archive.root}model.json" in archive and any(name.startswith(prefix) for name in archive.members)


def _unsupported(name: str, archive: Archive) -> UnsupportedFormatError:
    if _is_mobile(archive):
        return UnsupportedFormatError(
            f"{name}: a TorchScript archive for the lite interpreter with bytecode and no code: "
            "audit the archive that torch.jit.save wrote, or keep the code when it is saved"
        )
    return UnsupportedFormatError(
        f"{name}: a TorchScript archive of torch before 1.4 (model.json): "
        "load it with torch.jit.load and save it again with a newer torch"
    )


FORMAT = Format(
    name=NAME,
    summary="TorchScript archive written by torch.jit.save: scripted, traced or frozen",
    tells="modes as saved or as baked into the code, settings, tensors, dropout and random calls",
    cannot_tell="code of custom C++ classes and bytecode of the lite interpreter; archives of torch before 1.4",
    sniff=sniff,
    read=read,
)
