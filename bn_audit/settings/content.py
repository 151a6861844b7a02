"""What a settings file says, checked and converted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bn_audit.subject.waiver import Waiver


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSettings:
    """What one ``[[tool.bn-audit.target]]`` says about the sources that its glob matches.

    Attributes:
        path: Glob over sources.
        directory: The folder in which `path` starts; ``""`` for the working directory.
        values: By field of ``Options``; only what the table sets.
        origin: Where it stands, such as ``pyproject.toml: target 2``.
    """

    path: str
    directory: str
    values: Mapping[str, Any]
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one settings file says.

    Attributes:
        file: Its name as shown to people; None where there is none.
        values: By field of ``Options``; only what the file sets.
        targets: What ``bn-audit check`` audits where it is given nothing; globs and paths from the working directory.
        paths: What holds for some sources only, in the order of the file.
        waivers: In the order of the file.
    """

    file: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    paths: tuple[PathSettings, ...] = ()
    waivers: tuple[Waiver, ...] = ()
