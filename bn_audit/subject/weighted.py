"""Convolutions and linear layers: what a batch norm may have been folded into."""

from __future__ import annotations

from dataclasses import dataclass

from bn_audit.subject.tensor import TensorRef


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedLayer:
    """A convolution or linear layer with a stored weight.

    Attributes:
        path: Module path; ``""`` where the artifact records none.
        node: Name of the node or call in a graph; None outside graphs.
        weight: At least two dimensions.
        bias: Shape (C,), with C the number of output channels; None without.
        transposed: The outputs lie along the weight's second dimension: transposed convolutions, and matrices with
            their inputs first. None where only names and shapes are known.
        groups: Of the convolution; None where not known.
    """

    model: str
    path: str
    weight: TensorRef
    bias: TensorRef | None = None
    node: str | None = None
    transposed: bool | None = None
    groups: int | None = None
