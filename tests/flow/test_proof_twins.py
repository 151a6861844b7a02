"""Pairs of networks that look alike, of which one lets samples meet: proved and measured."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from onnx_graphs import Draw, exported, floats, measured, proof_of
from torch import Tensor, nn

ROWS = 6


class Head(nn.Module):
    """A linear layer, then the function under test."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(ROWS, ROWS), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


VECTORS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "mean of the features": (lambda x: x - x.mean(1, keepdim=True), "independent"),
    "mean of the batch": (lambda x: x - x.mean(0, keepdim=True), "mixes"),
    "softmax over features": (lambda x: x.softmax(1), "independent"),
    "softmax over the batch": (lambda x: x.softmax(0), "mixes"),
    "min-max of a row": (lambda x: (x - x.amin(1, True)) / (x.amax(1, True) - x.amin(1, True)), "independent"),
    "min-max of the batch": (lambda x: (x - x.min()) / (x.max() - x.min()), "mixes"),
    "normalised rows": (lambda x: F.normalize(x, dim=1), "independent"),
    "normalised columns": (lambda x: F.normalize(x, dim=0), "mixes"),
    "flipped features": (lambda x: x + 0.1 * x.flip(1), "independent"),
    "flipped batch": (lambda x: x + 0.1 * x.flip(0), "mixes"),
    "sums along a row": (lambda x: x.cumsum(1), "independent"),
    "sums along the batch": (lambda x: x + 0.1 * (x.cumsum(0) - x), "mixes"),
    "position of the feature": (lambda x: x + torch.arange(ROWS), "independent"),
    "position of the row": (lambda x: x + torch.arange(x.shape[0])[:, None], "position"),
    "number of features": (lambda x: x * x.shape[1], "independent"),
    "number of rows": (lambda x: x * (1 + 0.05 * x.shape[0]), "size"),
    "similarity of rows": (lambda x: x @ x.t(), "mixes"),
    "similarity within a row": (lambda x: x[:, :, None] @ x[:, None, :], "independent"),
    "mean of all": (lambda x: x.mean(), "mixes"),
    **{
        f"leak of {leak:g}": (lambda x, leak=leak: x + leak * x.mean(0, keepdim=True), "mixes") for leak in (1e-3, 1e-5)
    },
}


def judged(model: bytes, draws: list[Draw]) -> tuple[list[str], list[str]]:
    return [flow.verdict for flow in proof_of(model).outputs], measured(model, draws)


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name: str, dynamo: bool) -> None:
    function, expected = VECTORS[name]
    torch.manual_seed(0)
    model = exported(Head(function).eval(), (torch.randn(4, ROWS),), dynamo=dynamo)
    proved, truth = judged(model, [floats(ROWS)])
    assert truth == [expected]
    assert proved == truth
