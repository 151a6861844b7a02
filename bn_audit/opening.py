"""From a target to the one format that reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bn_audit import plugins
from bn_audit.containers.source import Source
from bn_audit.containers.target import FactoryTarget, FileTarget, ModuleTarget, Target
from bn_audit.errors import (
    AmbiguousFormatError,
    MissingTargetError,
    UnknownFormatError,
    UnsupportedFormatError,
    UsageError,
)
from bn_audit.expansion import is_factory
from bn_audit.interfaces import Format
from bn_audit.subject.subject import Form, Subject


@contextmanager
def opened_target(target: object, weights: str | None, *, without_memory: bool = False) -> Iterator[Target]:
    """Give the target, open; it is closed at the end of the block.

    Args:
        target: A path, a ``package.module:factory`` or a live module.
        weights: A file whose state dict takes the place of the live model's own.
        without_memory: Let a factory build its model without values where that is possible.

    Raises:
        UsageError: a directory, or weights that do not go with the target.
        ArtifactError: the file is missing, or the weights cannot be read.
    """
    if weights is not None:
        with opened_target(weights, None) as opened_weights:
            subject = format_of(opened_weights).read(opened_weights)
            if not any(model.form is Form.STATE_DICT for model in subject.models):
                raise UsageError(
                    f"{weights}: holds no state dict: --weights takes the file that load_state_dict() reads"
                )
            yield _live_target(target, subject)
        return
    if isinstance(target, str) and is_factory(target):
        yield FactoryTarget(spec=target, without_memory=without_memory)
    elif isinstance(target, str | Path):
        path = Path(target)
        if path.is_dir():
            raise UsageError(f"{target}: a directory: name one file, or audit it with 'bn-audit check {target}'")
        with Source(path, str(target)) as source:
            yield FileTarget(source)
    else:
        yield ModuleTarget(module=target)


def _live_target(target: object, weights: Subject) -> Target:
    if isinstance(target, str) and is_factory(target):
        return FactoryTarget(spec=target, weights=weights)
    if isinstance(target, str | Path):
        raise UsageError(f"{target}: weights are loaded into a factory's model or a live module, not into a file")
    return ModuleTarget(module=target, weights=weights)


def format_of(target: Target) -> Format:
    """Return the one format that accepts the target.

    Raises:
        UnknownFormatError, UnsupportedFormatError, AmbiguousFormatError: none does, or two do.
        MissingTargetError: it stands in for a file that was not fetched.
    """
    matches = [item for item in plugins.formats() if item.sniff(target)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        names = " and ".join(item.name for item in matches)
        raise AmbiguousFormatError(f"{target.name}: is {names} at once: a file of two formats is not audited")
    if isinstance(target, FileTarget):
        from bn_audit.containers.foreign.naming import identify

        foreign = identify(target)
        if foreign is not None:
            if foreign.is_pointer:
                raise MissingTargetError(f"{target.name}: this is {foreign.name}: {foreign.advice}")
            kind = UnsupportedFormatError if foreign.is_artifact else UnknownFormatError
            raise kind(f"{target.name}: this is {foreign.name}: {foreign.advice}")
    known = ", ".join(item.name for item in plugins.formats())
    raise UnknownFormatError(f"{target.name}: not a model file of a format known here ({known})")
