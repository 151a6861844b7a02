"""What a team accepts on purpose: waivers, and the findings that they and a baseline take out of the gate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from bn_audit.subject.design import Design
from bn_audit.subject.finding import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """A decision not to fail for some findings.

    Attributes:
        codes: The rules that it is about.
        reason: Why, for whoever reads the report.
        path: Glob over sources; None for every source.
        directory: The folder in which `path` starts; ``""`` for the working directory.
        layer: Glob over the paths of layers, with everything below; None for every place.
        expires: The last day on which it holds; None without an end.
        intent: The design that it declares.
        origin: Where it stands, such as ``pyproject.toml: waiver 2``.
    """

    codes: tuple[str, ...]
    reason: str
    path: str | None = None
    directory: str = ""
    layer: str | None = None
    expires: date | None = None
    intent: Design | None = None
    origin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaivedFinding:
    """A finding, or the part of it at some locations, that a waiver takes out of the gate."""

    finding: Finding
    reason: str
    expires: date | None = None
    intent: Design | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFinding:
    """One entry of a baseline: one rule at one place of one source.

    Attributes:
        source: Relative to the folder of the baseline, with ``/`` between folders.
        place: Path of the layer, else name of the node; ``""`` for the artifact as a whole.
        count: How often it occurs.
    """

    source: str
    code: str
    model: str = ""
    place: str = ""
    tensor: str | None = None
    count: int = 1
