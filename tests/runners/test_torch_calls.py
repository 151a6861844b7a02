"""What one forward pass calls, against what was put into the network."""

from __future__ import annotations

import pytest
import torch
from runners.torch_networks import LIVE, FunctionalNorm, Sum, convnet, images, training, with_operation
from torch import Tensor, nn
from torch.nn import functional

from bn_audit.runners.torch_module import session_for
from bn_audit.subject.run import Calls


def calls_of(model: nn.Module) -> Calls:
    with session_for(model, LIVE) as session:
        found = session.calls({session.loaded.parameters.inputs()[0]: images()})
    assert found is not None
    return found


def test_a_clean_network() -> None:
    assert calls_of(convnet()) == Calls(norm_calls=2, registered=2)


def test_statistics_are_untrained_where_every_layer_that_ran_has_the_initial_ones() -> None:
    model = convnet()
    model[1].reset_running_stats()
    assert not calls_of(model).untrained
    model[4].reset_running_stats()
    assert calls_of(model).untrained


def test_a_layer_in_training_mode_uses_the_batch() -> None:
    found = calls_of(training(4))
    assert [(place.path, place.op) for place in found.batch_statistics] == [("4", "aten.native_batch_norm.default")]


class Handmade(nn.BatchNorm2d):
    """Normalises by its own arithmetic, without torch's operator."""

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        if self.training:
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
        return (x - mean.view(1, -1, 1, 1)) / (variance.view(1, -1, 1, 1) + self.eps).sqrt()


@pytest.mark.parametrize("mode", [True, False])
def test_a_handmade_layer_counts_like_any_other(mode: bool) -> None:
    model = convnet()
    model[4] = Handmade(6).train(mode)
    found = calls_of(model)
    assert (found.norm_calls, found.registered) == (2, 2)
    assert [place.path for place in found.batch_statistics] == (["4"] if mode else [])


class MadeInForward(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.BatchNorm2d(x.shape[1])(x)


class InAList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = [nn.BatchNorm2d(3)]

    def forward(self, x: Tensor) -> Tensor:
        return self.norms[0](x)


@pytest.mark.parametrize("layer", [MadeInForward(), InAList(), FunctionalNorm(3)])
def test_calls_that_no_registered_layer_accounts_for(layer: nn.Module) -> None:
    found = calls_of(nn.Sequential(nn.Identity(), layer, nn.BatchNorm2d(3)).eval())
    assert (found.norm_calls, found.registered) == (2, 1)
    assert [place.path for place in found.unregistered] == ["1"]
    assert [place.path for place in found.batch_statistics] == ["1"]


def standardised(x: Tensor) -> Tensor:
    """Weight standardisation by a batch norm over the kernel, as timm does it."""
    weight = torch.randn(4, 3, 3, 3)
    weight = functional.batch_norm(weight.reshape(1, 4, -1), None, None, training=True).reshape_as(weight)
    return functional.conv2d(x, weight)


@pytest.mark.parametrize("layer", [nn.InstanceNorm2d(3), Sum(standardised), nn.GroupNorm(1, 3), nn.LayerNorm(12)])
def test_normalisers_of_single_samples_are_no_batch_norms(layer: nn.Module) -> None:
    found = calls_of(nn.Sequential(layer).eval())
    assert (found.norm_calls, found.batch_statistics, found.unregistered) == (0, (), ())


def test_dropout_that_ignores_the_mode() -> None:
    found = calls_of(with_operation(lambda x: functional.dropout(x, 0.3)))
    assert [place.path for place in found.ungated_dropout] == ["3.1"]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: functional.dropout(x, 0.3, training=False),
        lambda x: functional.dropout(x, 0.0, training=True),
        lambda x: x + torch.rand_like(x),
    ],
)
def test_what_is_no_ungated_dropout(function: object) -> None:
    assert calls_of(with_operation(function)).ungated_dropout == ()  # type: ignore[arg-type]


def test_a_dropout_layer_in_training_mode_does_what_its_mode_says() -> None:
    model = convnet()
    model[6] = nn.Sequential(nn.Dropout(0.2), model[6])
    model[6][0].train()
    assert calls_of(model).ungated_dropout == ()


def test_attention_with_ungated_dropout() -> None:
    def attend(x: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(x, x, x, dropout_p=0.1)

    assert [place.path for place in calls_of(with_operation(attend)).ungated_dropout] == ["3.1"]
    assert not calls_of(with_operation(lambda x: functional.scaled_dot_product_attention(x, x, x))).ungated_dropout


@pytest.mark.filterwarnings("ignore")
def test_dynamic_quantisation_takes_one_range_for_the_batch() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3 * 144, 4)).eval()
    model = torch.ao.quantization.quantize_dynamic(plain, {nn.Linear}, dtype=torch.qint8)
    assert [(place.path, place.op) for place in calls_of(model).dynamic_ranges] == [
        ("1", "quantized.linear_dynamic.default")
    ]
    assert calls_of(plain).dynamic_ranges == ()
