"""Frozen dataclasses as JSON and back, checked against their own annotations: nothing is unpickled."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar, Union

Data = TypeVar("Data")

_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def written(value: object) -> object:
    """Return a value as JSON can hold it; NaN and infinities become ``"nan"``, ``"inf"`` and ``"-inf"``.

    Raises:
        TypeError: the value is none of dataclass, mapping, sequence, text, number, bool and None.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: written(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): written(entry) for key, entry in value.items()}
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, Sequence):
        return [written(entry) for entry in value]
    raise TypeError(f"{type(value).__name__} has no place in JSON")


def read(kind: type[Data], value: object) -> Data:
    """Return the dataclass that `written` gave.

    Raises:
        ValueError: the value does not fit the annotations of `kind`; the message names the field.
    """
    result = _read(kind, value, kind.__name__)
    if not isinstance(result, kind):
        raise ValueError(f"{kind.__name__}: {type(value).__name__} in its place")  # noqa: TRY004
    return result


def _read(kind: Any, value: object, where: str) -> object:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return _read_optional(arguments, value, where)
    if origin is tuple:
        return _read_tuple(arguments, value, where)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise ValueError(f"{where}: {type(value).__name__} where a mapping belongs")
        return {str(key): _read(arguments[1], entry, where) for key, entry in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _read_fields(kind, value, where)
    if kind is float:
        return _read_float(value, where)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{where}: {type(value).__name__} where {kind.__name__} belongs")
    return value


def _read_fields(kind: type, value: object, where: str) -> object:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: {type(value).__name__} where an object belongs")  # noqa: TRY004
    hints = _hints(kind)
    unknown = set(value) - set(hints)
    if unknown:
        raise ValueError(f"{where}: unknown field {sorted(unknown)[0]!r}")
    return kind(**{name: _read(hints[name], entry, f"{where}.{name}") for name, entry in value.items()})


def _read_optional(arguments: tuple[Any, ...], value: object, where: str) -> object:
    if value is None and type(None) in arguments:
        return None
    kinds = [kind for kind in arguments if kind is not type(None)]
    return _read(kinds[0], value, where)


def _read_tuple(arguments: tuple[Any, ...], value: object, where: str) -> object:
    if not isinstance(value, list):
        raise ValueError(f"{where}: {type(value).__name__} where a list belongs")  # noqa: TRY004
    return tuple(_read(arguments[0], entry, where) for entry in value)


def _read_float(value: object, where: str) -> float:
    if isinstance(value, str) and value in _SPECIAL:
        return _SPECIAL[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{where}: {type(value).__name__} where a number belongs")  # noqa: TRY004
    return float(value)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)
