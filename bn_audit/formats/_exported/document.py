"""The JSON of an exported program: parsed within limits, and read without trusting any type.

Source: torch 2.13 ``_export/serde/schema.py`` and ``serialize.py`` (``_dataclass_to_dict``): a dataclass is an object,
a union an object with one key. Up to torch 2.2 a union has all its keys, null but for one.
"""

from __future__ import annotations

import json
import math
from typing import TypeGuard

from bn_audit.containers.archive import Archive
from bn_audit.errors import LimitExceededError, MalformedFileError

MAX_JSON_BYTES = 128 << 20
"""Cap on one JSON member; ResNet-152 takes 1.2 MB, about 2.4 kB for each node with its stack trace."""

MAX_JSON_ITEMS = 4_000_000
"""Cap on commas and brackets, each of which may cost 80 bytes of memory; ResNet-152 has 66 000."""

Json = dict[str, object]


class Reader:
    """Reads the parts of one JSON member; every wrong type is an error that names the member.

    Attributes:
        name: How messages call the member.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def mapping(self, value: object, what: str) -> Json:
        """Return an object."""
        if not isinstance(value, dict):
            raise self.error(what, "an object", value)
        return value

    def sequence(self, value: object, what: str) -> list[object]:
        """Return a list."""
        if not isinstance(value, list):
            raise self.error(what, "a list", value)
        return value

    def text(self, value: object, what: str) -> str:
        """Return a string."""
        if not isinstance(value, str):
            raise self.error(what, "a string", value)
        return encodable(value)

    def choice(self, value: object, what: str) -> tuple[str, object]:
        """Return the key and the value of a union."""
        for key, content in self.mapping(value, what).items():
            if content is not None:
                return key, content
        raise self.error(what, "a union", value)

    def named(self, value: object, what: str) -> str:
        """Return the name of a tensor or symbolic argument; torch 2.2 writes the name itself in some places."""
        return self.text(value if isinstance(value, str) else self.mapping(value, what).get("name"), what)

    def sizes(self, value: object, what: str) -> tuple[int | str | None, ...]:
        """Return sizes: numbers, the text of symbolic expressions, None for what is neither."""
        return tuple(size_of(item) for item in self.sequence(value, what))

    def error(self, what: str, wanted: str, value: object) -> MalformedFileError:
        """Return the error for a part that is something else."""
        return MalformedFileError(
            f"{self.name}: {what} is {type(value).__name__}, not {wanted}: export the program again with a released "
            "PyTorch"
        )


def read_json(archive: Archive, member: str) -> tuple[Reader, Json]:
    """Return the object that a member holds, with a reader for its parts.

    Raises:
        MalformedFileError: it is no JSON object.
        LimitExceededError: it is larger or deeper than this tool reads.
    """
    name = f"{archive.source.name}: {member}"
    data = archive.read(member, limit=MAX_JSON_BYTES)
    items = data.count(b",") + data.count(b"[") + data.count(b"{")
    if items > MAX_JSON_ITEMS:
        raise LimitExceededError(f"{name}: {items} values in the JSON, more than the {MAX_JSON_ITEMS} this tool reads")
    reader = Reader(name)
    try:
        return reader, reader.mapping(json.loads(data), "the JSON")
    except RecursionError as error:
        raise LimitExceededError(f"{name}: the JSON is nested deeper than this tool reads") from error
    except ValueError as error:
        raise MalformedFileError(f"{name}: no valid JSON ({error}): copy or download the file again") from error


def encodable(text: str) -> str:
    """Return a text without the lone surrogates that JSON can hold and no output can."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def size_of(value: object) -> int | str | None:
    """Return a size as the schema's ``SymInt`` writes it; up to torch 2.2 some are plain integers."""
    if is_integer(value):
        return value
    if not isinstance(value, dict):
        return None
    number = value.get("as_int")
    if is_integer(number):
        return number
    expression = value.get("as_expr")
    text = expression.get("expr_str") if isinstance(expression, dict) else None
    return text if isinstance(text, str) else None


def is_integer(value: object) -> TypeGuard[int]:
    """Return whether a value is an integer of 64 bits; JSON booleans are none."""
    return isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63


def finite_number(value: object) -> float | None:
    """Return a number as a float; None for infinities, NaN (written as strings) and everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
