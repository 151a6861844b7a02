"""Where the samples of a batch lie within a value of a graph: plain data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

Size = int | str | None
"""Size of one dimension: a number, the text of a symbolic expression, or None where not known.

The same text stands for the same size everywhere in a graph.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operator call of a graph, as far as the flow of samples needs it.

    Attributes:
        op: The operator without namespace and overload: ``view``, ``batch_norm``.
        inputs: Names of the tensor values it reads, lists flattened, in order.
        integers: Its integer arguments in order, lists flattened, booleans left out; None where symbolic.
        shape: Shape of its output where the graph records it.
    """

    op: str
    inputs: tuple[str, ...]
    integers: tuple[int | None, ...] = ()
    shape: tuple[Size, ...] | None = None


class Special(Enum):
    """Placements other than along an axis."""

    FREE = "free"
    """No sample determines the value."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Along:
    """Different samples lie at different indices of one axis.

    Attributes:
        axis: The axis, from 0.
        whole: True where each index belongs to one sample, False where one may hold parts of several.
    """

    axis: int
    whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """Shape (1, M, ...) in the order of the samples, and each index of axis 1 belongs to one sample.

    Attributes:
        sample: Sizes whose product is the number of elements of one sample.
    """

    sample: tuple[Size, ...]


Placement = Along | Folded | Special
Shape = tuple[Size, ...] | None
