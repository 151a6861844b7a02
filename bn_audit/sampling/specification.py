"""``NAME=DTYPE:SHAPE``: one sample of one input, as a user gives it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from bn_audit.errors import UsageError
from bn_audit.sampling.dtypes import require_dtype

MAX_ELEMENTS = 1 << 28
"""Of one sample: a gigabyte of float32, far more than any model takes and less than a typing error asks for."""

_FORM = "write NAME=DTYPE:SHAPE without the batch axis, such as x=float32:3x224x224 or ids=int64:128"
_SIZES = re.compile(r"\d+(?:[x×*,]\d+)*", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedInput:
    """One input as the user describes it.

    Attributes:
        name: ``""`` where none is given.
        shape: Of one sample, without the batch axis; ``()`` for a number.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


def parse_inputs(texts: Sequence[str]) -> tuple[AskedInput, ...]:
    """Return the inputs that the user describes.

    Raises:
        UsageError: one is not of the form, or a name occurs twice.
    """
    asked = tuple(parse_input(text) for text in texts)
    names = [item.name for item in asked]
    for name in names:
        if names.count(name) > 1:
            called = f"the name {name!r}" if name else "an input without a name"
            raise UsageError(f"--input: {called} occurs {names.count(name)} times: describe each input once")
    return asked


def parse_input(text: str) -> AskedInput:
    """Return one input.

    Raises:
        UsageError: the text is not ``NAME=DTYPE:SHAPE``.
    """
    where = f"--input {text!r}"
    name, _, rest = text.rpartition("=")
    dtype, colon, sizes = rest.partition(":")
    if not colon:
        raise UsageError(f"{where}: lacks the ':' between element type and shape: {_FORM}")
    checked = require_dtype(dtype.strip(), where)
    return AskedInput(name=name.strip(), dtype=checked, shape=_shape(sizes.strip(), where))


def _shape(text: str, where: str) -> tuple[int, ...]:
    if not text:
        return ()
    if not _SIZES.fullmatch(text) or len(text) > 200:
        raise UsageError(f"{where}: {text!r} is no shape: {_FORM}")
    sizes = tuple(int(size) for size in re.split(r"\D", text))
    if 0 in sizes:
        raise UsageError(f"{where}: a size of 0 leaves nothing to run on: give one sample's shape")
    if math.prod(sizes) > MAX_ELEMENTS:
        raise UsageError(f"{where}: {math.prod(sizes)} elements in one sample, more than the {MAX_ELEMENTS} allowed")
    return sizes
