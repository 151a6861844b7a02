"""Layers that are paired because their tensors are equal."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bn_audit.alignment import layers
from bn_audit.alignment.norm_values import distance, values_of_norm
from bn_audit.containers.target import ModuleTarget
from bn_audit.formats.live_module import FORMAT
from bn_audit.subject.norm import NormLayer


def norms(count: int, seed: int, dtype: torch.dtype = torch.float32, *, affine: bool = True) -> tuple[NormLayer, ...]:
    torch.manual_seed(seed)
    net = nn.Sequential(*(nn.BatchNorm1d(1 + number % 5, affine=affine) for number in range(count)))
    for norm in net:
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.0, 4.0)
        if affine:
            nn.init.normal_(norm.weight)
    return FORMAT.read(ModuleTarget(module=net.to(dtype))).norms


def equal(one: NormLayer, other: NormLayer) -> bool:
    return one.num_features == other.num_features and distance(values_of_norm(one), values_of_norm(other)) == 0.0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("affine", [True, False])
def test_no_equal_layer_is_left_out(dtype: torch.dtype, affine: bool) -> None:
    reference, target = norms(40, 0, affine=affine), norms(40, 0, dtype, affine=affine)[::-1]
    pairs = layers.pair_by_contents(reference, target, values_of_norm)
    assert all(equal(one, other) for one, other in zip(reference, target[::-1], strict=True))
    assert len(pairs) == 40
    assert all(equal(pair.reference, pair.target) for pair in pairs)


def test_other_layers_are_not_paired() -> None:
    assert layers.pair_by_contents(norms(40, 0), norms(40, 1), values_of_norm) == []


def test_networks_with_nothing_in_common_are_not_compared_layer_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(layers, "distance", lambda *pair: calls.append(pair))
    layers.pair_by_contents(norms(200, 0), norms(200, 1), values_of_norm)
    assert len(calls) < 200
