"""What a repair changes, what it leaves, and what writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change at one place.

    Attributes:
        path: Module path or node; ``""`` for the root.
        what: Such as ``training flag: True -> False``.
        type_name: Class of the module or operator of the node; ``""`` where unknown.
        model: Route of the model within the file.
    """

    path: str
    what: str
    type_name: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What can be set right in one file.

    Attributes:
        source: As the user named it.
        format: Name of the format that read it.
        changes: In the file's order; empty where there is nothing to repair.
        refused: What needs judgement and is left as it is: what, and what to do instead; one sentence each.
        remarks: What a reader must know; one sentence each.
        write: Writes the repaired file to a path that is not the source's; None where nothing can be written.
    """

    source: str
    format: str
    changes: tuple[Change, ...] = ()
    refused: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    write: Callable[[Path], None] | None = None
