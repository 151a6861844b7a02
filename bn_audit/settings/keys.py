"""The keys of a settings file: for each its field of ``Options`` and what its value may be."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from bn_audit.settings.place import Place
from bn_audit.subject.finding import Intent, Severity

_INPUT = re.compile(r"(?:.*=)?\s*\w+\s*:[\s\dx×*,]*", re.IGNORECASE | re.DOTALL)

Parse = Callable[[object, Place], Any]
"""From a value of TOML to that of the field; raises a ``UsageError`` that names the place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key.

    Attributes:
        name: As written in the file.
        field: The field of ``Options`` that it sets.
        parse: Checks and converts the value.
    """

    name: str
    field: str
    parse: Parse


def text(value: object, place: Place) -> str:
    """Return a string that holds more than blanks."""
    if not isinstance(value, str):
        raise place.wrong(f"is {_kind(value)}: write a string")
    if not value.strip():
        raise place.wrong("is empty: write what it is about, or remove the key")
    if "\0" in value:
        raise place.wrong("holds a NUL character, which no name has: remove it")
    return value


def texts(value: object, place: Place) -> tuple[str, ...]:
    """Return strings; one alone need not be in a list."""
    if isinstance(value, str):
        return (text(value, place),)
    if not isinstance(value, list):
        raise place.wrong(f"is {_kind(value)}: write a list of strings")
    return tuple(text(item, place) for item in value)


def _flag(value: object, place: Place) -> bool:
    if not isinstance(value, bool):
        raise place.wrong(f"is {_kind(value)}: write true or false")
    return value


def _count(value: object, place: Place) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise place.wrong(f"is {_kind(value)}: write a whole number")
    if value < 1:
        raise place.wrong(f"is {value}: write a number from 1 up")
    return value


def _sizes(value: object, place: Place) -> tuple[int, ...]:
    """Return batch sizes, ascending, each once."""
    if not isinstance(value, list) or not value:
        raise place.wrong(f"is {'empty' if value == [] else _kind(value)}: write a list of numbers, such as [1, 2, 8]")
    return tuple(sorted({_count(item, place) for item in value}))


def _layers(value: object, place: Place) -> tuple[str, ...]:
    """Return globs over layers."""
    for pattern in texts(value, place):
        if not pattern.strip("."):
            raise place.wrong(f"{pattern!r} matches nothing: name layers, such as 'backbone.*'")
    return texts(value, place)


def _inputs(value: object, place: Place) -> tuple[str, ...]:
    """Return inputs of the right form; their element types are judged where a model is run."""
    for item in texts(value, place):
        if not _INPUT.fullmatch(item):
            raise place.wrong(f"{item!r} is no input: write NAME=DTYPE:SHAPE, such as x=float32:3x224x224")
    return texts(value, place)


def _codes(value: object, place: Place) -> tuple[str, ...]:
    """Return prefixes of rule codes."""
    return tuple(_prefix(item, place) for item in texts(value, place))


def _prefix(given: str, place: Place) -> str:
    prefix = given.strip().upper()
    if not any(code.startswith(prefix) for code in place.codes):
        raise place.unknown(given, _families(place.codes) if len(prefix) < len("BN101") else place.codes, "rule code")
    return prefix


def _families(codes: object) -> list[str]:
    return sorted({str(code)[:3] for code in codes}) if isinstance(codes, tuple | list) else []


def code(given: str, place: Place) -> str:
    """Return the code of a rule."""
    if given.strip().upper() not in place.codes:
        raise place.unknown(given, place.codes, "rule code")
    return given.strip().upper()


def choice(options: type[Enum]) -> Parse:
    """Return the parser for the values of an enumeration."""

    def parse(value: object, place: Place) -> Enum:
        given = text(value, place)
        known = [str(option.value) for option in options]
        if given not in known:
            raise place.unknown(given, known, options.__name__.lower())
        return options(given)

    return parse


def table(value: object, place: Place) -> Mapping[str, object]:
    """Return a table of TOML."""
    if not isinstance(value, dict):
        raise place.wrong(f"is {_kind(value)}: write a table of keys and values")
    return value


def tables(value: object, place: Place, name: str) -> list[tuple[Mapping[str, object], Place]]:
    """Return the tables of an array with the place of each, such as ``waiver 2``."""
    if not isinstance(value, list):
        raise place.at(name).wrong(f"is {_kind(value)}: write one [[{name}]] table for each")
    places = [place.at(f"{name} {number}") for number in range(1, len(value) + 1)]
    return [(table(item, found), found) for item, found in zip(value, places, strict=True)]


def _severities(value: object, place: Place) -> dict[str, Severity]:
    level = choice(Severity)
    return {code(name, place): level(item, place.at(name)) for name, item in table(value, place).items()}


def _path(value: object, place: Place) -> str:
    return place.path(text(value, place))


def _kind(value: object) -> str:
    """Return what a value of TOML is, for a message."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {value}" if math.isfinite(value) else f"the number {value!r}"
    if isinstance(value, str):
        return f"the string {value!r}"
    return "a list" if isinstance(value, list) else "a table" if isinstance(value, dict) else "a date or time"


GENERAL = (
    Key(name="intent", field="intent", parse=choice(Intent)),
    Key(name="select", field="select", parse=_codes),
    Key(name="ignore", field="ignore", parse=_codes),
    Key(name="severity", field="severities", parse=_severities),
    Key(name="fail-on", field="fail_on", parse=choice(Severity)),
    Key(name="strict", field="strict", parse=_flag),
    Key(name="frozen", field="frozen", parse=_layers),
    Key(name="flow", field="flow", parse=_flag),
    Key(name="jobs", field="jobs", parse=_count),
    Key(name="baseline", field="baseline", parse=_path),
)
"""Keys of the file that set one field of ``Options`` each."""

PER_PATH = (
    Key(name="intent", field="intent", parse=choice(Intent)),
    Key(name="against", field="against", parse=_path),
    Key(name="weights", field="weights", parse=_path),
    Key(name="frozen", field="frozen", parse=_layers),
    Key(name="ignore", field="ignore", parse=_codes),
    Key(name="batch-sizes", field="batch_sizes", parse=_sizes),
    Key(name="inputs", field="inputs", parse=_inputs),
)
"""Keys of a ``[[target]]`` table beside its ``path``."""
