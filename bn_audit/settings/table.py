"""What is in force, for people and for machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Any

from bn_audit.settings.content import PathSettings, Settings
from bn_audit.settings.keys import PER_PATH
from bn_audit.styled import Line, clean, line
from bn_audit.subject.waiver import Waiver

SCHEMA_ID = "bn-audit.settings.v1"
WIDEST_VALUE = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """One value of a run and where it comes from.

    Attributes:
        origin: ``default``, ``command line``, or a file and its key.
    """

    key: str
    value: object
    origin: str


Sources = Mapping[str, Sequence[InForce]]
"""What holds for single sources, by their names."""


def document(settings: Settings, values: Sequence[InForce], sources: Sources, day: date) -> dict[str, Any]:
    """Return everything as JSON values.

    Args:
        values: What holds for all sources.
        sources: What holds for some, where somebody asked.
        day: On which waivers are judged.
    """
    return {
        "schema": SCHEMA_ID,
        "file": settings.file,
        "settings": _entries(values),
        "paths": [{"path": found.path, "settings": _entries(_of_path(found))} for found in settings.paths],
        "sources": [{"source": source, "settings": _entries(own)} for source, own in sources.items()],
        "waivers": [_waiver(waiver, day) for waiver in settings.waivers],
    }


def _entries(values: Sequence[InForce]) -> list[dict[str, Any]]:
    return [{"key": item.key, "value": _plain(item.value), "origin": item.origin} for item in values]


def lines(settings: Settings, values: Sequence[InForce], sources: Sources, day: date) -> Iterator[Line]:
    """Yield everything as lines; for the arguments see `document`."""
    if settings.file is None:
        yield line(("settings: ", "dim"), "no file: no [tool.bn-audit] upward from here to the root of the repository")
    else:
        yield line(("settings: ", "dim"), (clean(settings.file), "bold"))
    yield from _rows(values)
    for found in settings.paths:
        yield line()
        yield line(("for ", "dim"), (clean(found.path), "bold"))
        yield from _rows(_of_path(found))
    for source, own in sources.items():
        yield line()
        yield line(("in force for ", "dim"), (clean(source), "bold"))
        yield from _rows(own)
    if settings.waivers:
        yield line()
    for waiver in settings.waivers:
        yield line(("waiver: ", "dim"), _sentence(waiver, day), (f"  {clean(waiver.origin)}", "dim"))


def _rows(values: Sequence[InForce]) -> Iterator[Line]:
    texts = [_text(item.value) for item in values]
    keys = max((len(item.key) for item in values), default=0)
    width = min(max(map(len, texts), default=0), WIDEST_VALUE)
    for item, text in zip(values, texts, strict=True):
        yield line(f"{item.key:<{keys}}  {text:<{width}}  ", (clean(item.origin), "dim"), indent=2, hang=keys + 2)


def _of_path(found: PathSettings) -> list[InForce]:
    names = {key.field: key.name for key in PER_PATH}
    return [
        InForce(key=names[field], value=value, origin=f"{found.origin}: {names[field]}")
        for field, value in found.values.items()
    ]


def _sentence(waiver: Waiver, day: date) -> str:
    at = f" at {waiver.layer}" if waiver.layer else ""
    of = f" in {waiver.path}" if waiver.path else ""
    design = f" ({waiver.intent.value})" if waiver.intent else ""
    end = ""
    if waiver.expires is not None:
        end = f", {'expired on' if waiver.expires < day else 'until'} {waiver.expires.isoformat()}"
    return clean(f"{', '.join(waiver.codes)}{of}{at}{design}{end}: {waiver.reason}")


def _waiver(waiver: Waiver, day: date) -> dict[str, Any]:
    return {
        "codes": list(waiver.codes),
        "path": waiver.path,
        "layer": waiver.layer,
        "intent": _plain(waiver.intent),
        "reason": waiver.reason,
        "expires": None if waiver.expires is None else waiver.expires.isoformat(),
        "expired": waiver.expires is not None and waiver.expires < day,
        "origin": waiver.origin,
    }


def _plain(value: object) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _text(value: object) -> str:
    plain = _plain(value)
    if isinstance(plain, dict):
        plain = [f"{key} = {item}" for key, item in plain.items()]
    if isinstance(plain, list):
        return ", ".join(clean(str(item)) for item in plain) or "-"
    return "-" if plain is None else clean(str(plain).lower() if isinstance(plain, bool) else str(plain))
