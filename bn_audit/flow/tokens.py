"""Names for functions: 64-bit tokens that are equal where two computations are the same.

Tokens are mixed as in splitmix64 (Steele, Lea and Flood 2014): equal inputs give equal tokens, and unequal ones differ
but for a chance of about 1 in 2**64 a pair.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint64]
"""An array of packed owners or of forms."""

_MASK = (1 << 64) - 1
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_32 = np.uint64(32)
_29 = np.uint64(29)


@lru_cache(maxsize=65536)
def token(*parts: object) -> np.uint64:
    """Return the token of a tuple of plain values, told apart by their representation."""
    return digest(repr(parts).encode())


def digest(data: bytes) -> np.uint64:
    """Return the token of bytes."""
    return np.uint64(int.from_bytes(blake2b(data, digest_size=8).digest(), "little") & _MASK)


def mixed(forms: Bits, by: Bits | np.uint64) -> Bits:
    """Return the tokens of ``(form, by)`` pairs; the order counts, and the shapes broadcast."""
    state = forms * _GOLDEN + by
    state ^= state >> _32
    state *= _FIRST
    state ^= state >> _29
    state *= _SECOND
    state ^= state >> _32
    return state
