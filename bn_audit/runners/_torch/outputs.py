"""Outputs of a model as named arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from bn_audit.runners._torch.arrays import to_array
from bn_audit.subject.run import Array

ONLY_OUTPUT = "output"
"""Name of an output that is not part of a tuple or dict."""

MAX_DEPTH = 32
PADDING = 128
"""Detectors answer with up to a hundred boxes for each image."""


def tensors_in(value: object, name: str = "", depth: int = 0) -> Iterator[tuple[str, object]]:
    """Yield (dotted name, tensor or number) for everything a model returned, in order.

    Tuples, lists, dicts, named tuples and dataclasses are opened; of other objects, their own attributes. Text and
    None hold no answer.
    """
    import torch

    if isinstance(value, torch.Tensor | bool | int | float | complex | np.ndarray | np.generic):
        yield name or ONLY_OUTPUT, value
    elif depth < MAX_DEPTH and value is not None and not isinstance(value, str | bytes | type):
        for key, member in _members(value):
            yield from tensors_in(member, f"{name}.{key}" if name else key, depth + 1)


def _members(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        yield from ((str(key), member) for key, member in value.items())
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from zip(value._fields, value, strict=False)
    elif isinstance(value, list | tuple):
        yield from ((str(index), member) for index, member in enumerate(value))
    elif dataclasses.is_dataclass(value):
        yield from ((field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value))
    elif not callable(value):
        yield from (
            ((key, member) for key, member in vars(value).items() if not key.startswith("_"))
            if hasattr(value, "__dict__")
            else ()
        )


def as_arrays(value: object, samples: int | None = None) -> dict[str, Array]:
    """Return every output by its name; numbers as arrays without axes.

    Args:
        samples: How many samples a model was given as a list; its answers, one for each, are put together.
    """
    together = _stacked(value, samples) if samples else None
    return together if together is not None else _separate(value)


def _stacked(value: object, samples: int | None) -> dict[str, Array] | None:
    """Return the answers of a list along a first axis, shorter ones padded; None where they do not fit together."""
    if not isinstance(value, list | tuple) or len(value) != samples:
        return None
    answers = [_separate(answer) for answer in value]
    stacked: dict[str, Array] = {}
    for name, first in answers[0].items():
        rows = [answer.get(name) for answer in answers]
        if any(row is None or row.shape[1:] != first.shape[1:] or row.ndim != first.ndim for row in rows):
            return None
        arrays = [row for row in rows if row is not None]
        stacked[name] = np.stack([_padded(array, arrays) for array in arrays])
    return stacked


def _padded(array: Array, others: list[Array]) -> Array:
    """Return the array with zeros behind it, up to a length that seldom depends on the other answers."""
    longest = max((len(other) for other in others if other.ndim), default=0)
    if not array.ndim or all(len(other) == longest for other in others):
        return array
    target = -(-longest // PADDING) * PADDING
    return np.concatenate([array, np.zeros((target - len(array), *array.shape[1:]), array.dtype)])


def _separate(value: object) -> dict[str, Array]:
    import torch

    found: dict[str, Array] = {}
    for name, member in tensors_in(value):
        array = to_array(member) if isinstance(member, torch.Tensor) else np.asarray(member)
        found[name if name not in found else f"{name}#{len(found)}"] = array
    return found
