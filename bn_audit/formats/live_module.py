"""Live modules: ``package.module:factory`` on the command line, or a ``torch.nn.Module`` given to the API.

Importing and calling a factory runs its code; the module itself is only looked at, never run or changed. With weights,
these are matched with the module's own state dict and judged in its place, without being loaded into it.
"""

from __future__ import annotations

from bn_audit.containers.target import FactoryTarget, ModuleTarget, Target
from bn_audit.errors import FactoryError
from bn_audit.interfaces import Format
from bn_audit.subject.subject import Subject

NAME = "live-module"


def sniff(target: Target) -> bool:
    """Return whether the target is a factory or a live object."""
    return isinstance(target, FactoryTarget | ModuleTarget)


def read(target: Target) -> Subject:
    """Return the one model that the factory gives or the target is.

    Raises:
        FactoryError: the factory cannot be imported, fails, or gives no ``torch.nn.Module``.
    """
    if not isinstance(target, FactoryTarget | ModuleTarget):
        raise FactoryError(f"{target.name}: not a factory: write package.module:factory")
    from bn_audit.formats._live.reading import read_live  # every check sniffs, few read this format

    return read_live(target, format_name=NAME)


FORMAT = Format(
    name=NAME,
    summary="a factory (package.module:factory) or a torch.nn.Module given to the Python API",
    tells="everything a module states; with --weights also how the file's keys fit",
    cannot_tell="what the forward code does with the layers",
    sniff=sniff,
    read=read,
)
