"""The equations of a fold, for every layer that torch can fold into, beside torch's own fusion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from bn_audit.alignment.filters import filters
from bn_audit.alignment.folding import check_fold, infer_eps, scaling
from bn_audit.alignment.norm_values import values_of_norm
from bn_audit.subject.comparison import FoldCheck
from bn_audit.subject.norm import Mode, ModeOrigin, NormKind, NormLayer
from bn_audit.subject.tensor import TensorRef
from bn_audit.subject.weighted import WeightedLayer

CHANNELS = 12


def ref(tensor: Tensor, name: str) -> TensorRef:
    data = tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    dtype = str(tensor.dtype).removeprefix("torch.")
    return TensorRef(name=name, dtype=dtype, shape=tuple(tensor.shape), load=lambda: data)


def weighted(weight: Tensor, bias: Tensor | None, **known: object) -> WeightedLayer:
    return WeightedLayer(
        model="", path="conv", weight=ref(weight, "w"), bias=None if bias is None else ref(bias, "b"), **known
    )


def trained(eps: float = 1e-5) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(CHANNELS, eps=eps)
    generator = torch.Generator().manual_seed(1)
    layer.weight.data = torch.randn(CHANNELS, generator=generator)  # some scales are negative
    layer.bias.data = torch.randn(CHANNELS, generator=generator)
    layer.running_mean = torch.randn(CHANNELS, generator=generator)
    layer.running_var = torch.rand(CHANNELS, generator=generator) + 1e-3
    return layer


def norm(layer: nn.BatchNorm2d, *, records_eps: bool = True) -> NormLayer:
    return NormLayer(
        model="",
        path="bn",
        kind=NormKind.BATCH_NORM,
        type_name="",
        mode=Mode.EVAL,
        mode_origin=ModeOrigin.MODULE_FLAG,
        uses_batch_statistics=False,
        num_features=CHANNELS,
        eps=layer.eps if records_eps else None,
        weight=ref(layer.weight, "bn.weight"),
        bias=ref(layer.bias, "bn.bias"),
        running_mean=ref(layer.running_mean, "bn.running_mean"),
        running_var=ref(layer.running_var, "bn.running_var"),
    )


def checked(layer: NormLayer, plain: WeightedLayer, folded: WeightedLayer) -> FoldCheck:
    return check_fold(values_of_norm(layer), scaling(plain, folded))[0]


def fused(layer: nn.Module, batch_norm: nn.BatchNorm2d, *, transpose: bool = False) -> tuple[Tensor, Tensor]:
    statistics = (batch_norm.running_mean, batch_norm.running_var, batch_norm.eps, batch_norm.weight, batch_norm.bias)
    if isinstance(layer, nn.Linear):
        return fuse_linear_bn_weights(layer.weight, layer.bias, *statistics)
    return fuse_conv_bn_weights(layer.weight, layer.bias, *statistics, transpose=transpose)


LAYERS = {
    "convolution": (nn.Conv2d(5, CHANNELS, 3), {}),
    "without bias": (nn.Conv2d(5, CHANNELS, 3, bias=False), {}),
    "depthwise": (nn.Conv2d(CHANNELS, CHANNELS, 3, groups=CHANNELS), {}),
    "grouped": (nn.Conv1d(8, CHANNELS, 3, groups=4), {"transposed": False, "groups": 4}),
    "transposed": (nn.ConvTranspose2d(5, CHANNELS, 3), {"transposed": True, "groups": 1}),
    "three dimensions": (nn.Conv3d(2, CHANNELS, 2), {}),
    "linear": (nn.Linear(7, CHANNELS), {}),
}


@pytest.mark.parametrize("name", sorted(LAYERS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_torch_s_own_folds_hold(name: str, dtype: torch.dtype) -> None:
    layer, known = LAYERS[name]
    batch_norm = trained()
    weight, bias = fused(layer, batch_norm, transpose=bool(known.get("transposed")))
    plain = weighted(layer.weight, layer.bias, **known)
    fold = checked(norm(batch_norm), plain, weighted(weight.to(dtype), bias.to(dtype), **known))
    assert fold.holds is True
    assert fold.deviation < (1e-6 if dtype in (torch.float32, torch.float64) else fold.tolerance)


@pytest.mark.parametrize("name", sorted(LAYERS))
@pytest.mark.parametrize("part", ["scale", "shift"])
def test_one_wrong_channel_is_named(name: str, part: str) -> None:
    layer, known = LAYERS[name]
    batch_norm = trained()
    right = norm(batch_norm)
    if part == "scale":
        batch_norm.running_var[5] *= 1.01
    else:
        batch_norm.running_mean[5] += 0.01
    weight, bias = fused(layer, batch_norm, transpose=bool(known.get("transposed")))
    fold = checked(right, weighted(layer.weight, layer.bias, **known), weighted(weight, bias, **known))
    assert (fold.holds, fold.channel, fold.channels, fold.part) == (False, 5, 1, part)
    assert "channel 5" in fold.why


def test_a_matrix_product_lies_the_other_way_round() -> None:
    layer, batch_norm = nn.Linear(7, CHANNELS), trained()
    weight, bias = fused(layer, batch_norm)
    folded = weighted(weight.T.contiguous(), bias, transposed=True, groups=1)
    assert checked(norm(batch_norm), weighted(layer.weight, layer.bias), folded).holds


def test_groups_of_a_transposed_convolution() -> None:
    layer = nn.ConvTranspose1d(8, CHANNELS, 3, groups=4)
    rows = filters(weighted(layer.weight, None, transposed=True, groups=4))
    assert rows.shape == (CHANNELS, 2 * 3)
    channel, per_group = 7, CHANNELS // 4
    group = channel // per_group
    expected = layer.weight[2 * group : 2 * group + 2, channel % per_group].detach().numpy()
    assert np.array_equal(rows[channel], expected.reshape(-1).astype(np.float64))


@pytest.mark.parametrize("eps", [1e-5, 1e-3, 1e-6, 2e-5, 4.2e-4, 0.0])
def test_eps_is_inferred_although_two_channels_are_wrong(eps: float) -> None:
    layer, batch_norm = nn.Conv2d(5, CHANNELS, 3), trained(eps)
    batch_norm.running_var *= 0.1
    right = values_of_norm(norm(batch_norm, records_eps=False))
    batch_norm.running_var[:2] *= 3
    weight, bias = fused(layer, batch_norm)
    found = infer_eps(right, scaling(weighted(layer.weight, layer.bias), weighted(weight, bias)))
    assert found == pytest.approx(eps, rel=1e-2, abs=1e-6)


def test_dead_filters_and_dead_channels_hold() -> None:
    layer, batch_norm = nn.Conv2d(5, CHANNELS, 3), trained()
    layer.weight.data[3] = 0.0
    batch_norm.weight.data[4] = 0.0
    weight, bias = fused(layer, batch_norm)
    assert checked(norm(batch_norm), weighted(layer.weight, layer.bias), weighted(weight, bias)).holds


def test_filters_that_turned_are_no_fold() -> None:
    layer, batch_norm = nn.Conv2d(5, CHANNELS, 3), trained()
    weight, bias = fused(layer, batch_norm)
    weight = weight.detach().clone()
    weight[9, 0] += 0.01
    fold = checked(norm(batch_norm), weighted(layer.weight, layer.bias), weighted(weight, bias))
    assert (fold.holds, fold.channel, fold.part) == (False, 9, "direction")


def test_not_a_number_never_holds() -> None:
    layer, batch_norm = nn.Conv2d(5, CHANNELS, 3), trained()
    weight, bias = fused(layer, batch_norm)
    bias = bias.detach().clone()
    bias[2] = float("nan")
    fold = checked(norm(batch_norm), weighted(layer.weight, layer.bias), weighted(weight, bias))
    assert (fold.holds, fold.channel) == (False, 2)
