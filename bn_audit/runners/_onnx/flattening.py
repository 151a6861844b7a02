"""Outputs of ONNX models as arrays by name."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bn_audit.subject.run import Array


def flattened(results: Any) -> dict[str, Array]:
    """Return outputs as arrays by name: members of a sequence by their place, scores by class as columns.

    Labels that are texts become numbers, equal for equal texts.
    """
    found: dict[str, Array] = {}
    for name, value in results:
        if isinstance(value, Mapping):
            found.update(flattened((f"{name}.{key}", member) for key, member in value.items()))
        elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
            if value and all(isinstance(member, Mapping) and member.keys() == value[0].keys() for member in value):
                found[name] = np.array([list(member.values()) for member in value])
            else:
                found.update(flattened((f"{name}.{place}", member) for place, member in enumerate(value)))
        elif value is not None:
            found[name] = _as_numbers(np.asarray(value))
    return found


def _as_numbers(array: Array) -> Array:
    if array.dtype.kind not in "OUS":
        return array
    texts = [zlib.crc32(str(item).encode("utf-8", "surrogateescape")) for item in array.ravel()]
    return np.array(texts, np.int64).reshape(array.shape)
