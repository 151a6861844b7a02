"""Quantisation in exported programs: one range for the batch couples its samples, one for each token does not."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.ao.quantization.fx._decomposed
from aten_programs import proof_of
from torch import Tensor, nn

OPS = torch.ops.quantized_decomposed
RANGE = (-128, 127, torch.int8)


def of_all(x: Tensor) -> Tensor:
    scale, zero = OPS.choose_qparams.tensor(x, -128, 127, 1e-6, torch.int8)
    return OPS.dequantize_per_tensor.tensor(OPS.quantize_per_tensor.tensor(x, scale, zero, *RANGE), scale, zero, *RANGE)


def of_each_token(x: Tensor) -> Tensor:
    scales, zeros = OPS.choose_qparams_per_token_asymmetric.default(x, torch.int8)
    codes = OPS.quantize_per_token.default(x, scales, zeros, *RANGE)
    return OPS.dequantize_per_token.default(codes, scales, zeros, *RANGE, torch.float32)


def given(x: Tensor) -> Tensor:
    scales, zeros = torch.full((6,), 0.05), torch.zeros(6, dtype=torch.int64)
    codes = OPS.quantize_per_channel.default(x, scales, zeros, 1, *RANGE)
    return OPS.dequantize_per_channel.default(codes, scales, zeros, 1, *RANGE)


class Net(nn.Module):
    def __init__(self, quantised: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.quantised = quantised
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.quantised(x))


@pytest.mark.parametrize(
    ("quantised", "verdict"), [(of_all, "mixes"), (of_each_token, "independent"), (given, "independent")]
)
def test_ranges_are_followed(quantised: Callable[[Tensor], Tensor], verdict: str) -> None:
    torch.manual_seed(0)
    net = Net(quantised).eval()
    x = torch.randn(4, 6)
    other = torch.cat((x[:1], 10 * torch.randn(3, 6)))
    with torch.no_grad():
        moves = not torch.equal(net(x)[0], net(other)[0])
    assert moves == (verdict == "mixes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},))
    proof = proof_of(program)
    assert [flow.verdict for flow in proof.outputs] == [verdict]
    assert [mark.kind for mark in proof.marks if mark.kind == "quantises"] == ["quantises"] * moves
