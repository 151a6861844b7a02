"""Where samples meet: the layer and the operator that a mistake was put into are the ones that are named."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from runners.torch_networks import LIVE, FunctionalNorm, Sum, colours, convnet, images, training, with_operation
from torch import Tensor, nn

from bn_audit.runners._torch import colours as colours_module
from bn_audit.runners.torch_module import session_for
from bn_audit.subject.run import Array, Batch, Localisation


def localised(model: nn.Module, index: int = 0, batches: tuple[Array, Array, Array] | None = None) -> Localisation:
    with session_for(model, LIVE) as session:
        name = session.loaded.parameters.inputs()[0]
        base, companions, probe = ({name: array} for array in batches or colours(index))
        return session.localise(base, companions, probe, index)


def test_a_clean_network_mixes_nowhere_and_every_layer_is_in_its_profile() -> None:
    found = localised(convnet())
    assert found.first is found.combined is None
    assert found.overlaps == ()
    assert [effect.path for effect in found.profile] == [str(index) for index in range(9)]
    assert {effect.effect for effect in found.profile} == {0.0}
    assert [effect.path for effect in found.profile if effect.is_norm] == ["1", "4"]


@pytest.mark.parametrize("layers", [(1,), (4,), (1, 4)])
def test_a_batch_norm_in_training_mode(layers: tuple[int, ...]) -> None:
    found = localised(training(*layers))
    assert found.first is not None
    assert (found.first.path, found.first.op) == (str(layers[0]), "aten.native_batch_norm.default")
    assert found.first.type_name == "torch.nn.modules.batchnorm.BatchNorm2d"
    assert found.combined is None
    before = [effect for effect in found.profile if int(effect.path) < layers[0]]
    after = [effect for effect in found.profile if int(effect.path) >= layers[0]]
    assert all(effect.effect == 0 for effect in before)
    assert all(effect.effect > 0 for effect in after)


def test_the_profile_is_the_change_over_the_largest_element() -> None:
    model, (base, companions, _) = training(1), colours(2)
    with torch.no_grad():
        one, other = (training(1)[:2](torch.from_numpy(array)).double()[2] for array in (base, companions))
    effects = {effect.path: effect.effect for effect in localised(model, 2).profile}
    assert effects["1"] == pytest.approx(float((one - other).abs().max() / one.abs().max()), rel=1e-12)


MIXING: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "softmax": (lambda x: x.softmax(0), "aten._softmax.default"),
    "mean": (lambda x: x - x.mean(0, keepdim=True), "aten.mean.dim"),
    "weak": (lambda x: x + 1e-6 * x.mean(0, keepdim=True), "aten.mean.dim"),
    "sort": (lambda x: x.sort(0).values, "aten.sort.default"),
    "prefix": (lambda x: x + 0.1 * (x.cumsum(0) - x), "aten.cumsum.default"),
    "matrix": (lambda x: x * (x.flatten(1) @ x.flatten(1).t()).softmax(-1).sum(0).view(-1, 1, 1, 1), "aten.mm.default"),
}


@pytest.mark.parametrize("name", MIXING)
def test_an_operation_over_the_batch(name: str) -> None:
    function, operator = MIXING[name]
    found = localised(with_operation(function), index=4)
    assert found.first is not None
    assert (found.first.path, found.first.op) == ("3.1", operator)
    assert found.combined is None
    assert next(effect.path for effect in found.profile if effect.effect) == "3.1"


def test_rows_that_move_are_told_from_rows_that_are_combined() -> None:
    found = localised(with_operation(lambda x: x.flatten(1).t().reshape(x.shape)), index=1)
    assert found.first is not None and found.combined is not None
    assert found.first.path == "3.1"
    assert found.combined.path != "3.1"


def test_rows_are_told_from_channels_and_pixels_of_the_same_number() -> None:
    """Eight samples of eight channels and pixels, exchanged with each other, look like samples along another axis."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Sum(lambda x: x.flatten(1).t().reshape(x.shape)), nn.ReLU())
    model.append(nn.Conv2d(8, 2, 3))
    base, other = images(8, side=8), images(8, seed=1, side=8)
    companions, probe = other.copy(), base.copy()
    companions[7], probe[7] = base[7], other[7]
    found = localised(model.eval(), 7, (base, companions, probe))
    assert found.first is not None and found.combined is not None
    assert (found.first.path, found.combined.path) == ("1", "3")


def test_a_functional_batch_norm_is_named_by_the_module_that_calls_it() -> None:
    model = convnet()
    model[4] = FunctionalNorm(6).eval()
    found = localised(model)
    assert found.first is not None
    assert (found.first.path, found.first.op) == ("4", "aten.native_batch_norm.default")


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.reshape(-1, *x.shape[2:]).softmax(-1).reshape(x.shape),
        lambda x: x.permute(1, 2, 3, 0).contiguous().softmax(0).permute(3, 0, 1, 2),
        lambda x: torch.cat([x, 2 * x]).softmax(1)[: x.shape[0]],
        lambda x: x.unsqueeze(0).expand(3, *x.shape).reshape(-1, *x.shape[1:]).tanh()[: x.shape[0]],
    ],
    ids=["folded", "batch-last", "concatenated", "repeated"],
)
def test_samples_may_lie_along_any_axis(function: Callable[[Tensor], Tensor]) -> None:
    found = localised(with_operation(function))
    assert found.first is None
    assert found.overlaps == ()


class Residual(nn.Module):
    """A branch whose last scale is zero, so that nothing of it reaches the output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.branch = nn.BatchNorm2d(4)
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return x + self.gate * self.branch(x)


def test_latent_mixing_is_among_the_overlaps() -> None:
    found = localised(Residual().train())
    assert [place.path for place in found.overlaps][:1] == ["branch"]


class Attends(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_over_the_wrong_axis(batch_first: bool) -> None:
    drawn = np.random.default_rng(0).standard_normal((2, 5, 7, 8)).astype(np.float32)
    base, companions, probe = drawn[0], drawn[1].copy(), drawn[0].copy()
    companions[3], probe[3] = drawn[0][3], drawn[1][3]
    found = localised(Attends(batch_first).eval(), 3, (base, companions, probe))
    assert (found.first is None) is batch_first
    if found.first is not None:
        assert found.first.path == "attention"


def test_one_window_after_another_finds_what_lies_behind_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colours_module, "WINDOW_BYTES", 1)
    found = localised(training(4))
    assert found.first is not None
    assert found.first.path == "4"


def test_the_model_is_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    model = training(1)
    model.append(Sum(lambda x: (print("noise"), x)[1]))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    localised(model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert capsys.readouterr().out == ""


def test_the_axis_of_the_samples_is_found_by_what_differs() -> None:
    model = Sum(lambda x: x.softmax(-1))
    batches: list[Batch] = []
    drawn = np.random.default_rng(0).standard_normal((2, 4, 5, 3)).astype(np.float32)
    base, companions, probe = drawn[0], drawn[1].copy(), drawn[0].copy()
    companions[:, 2], probe[:, 2] = drawn[0][:, 2], drawn[1][:, 2]
    batches += [{"x": array} for array in (base, companions, probe)]
    with session_for(model, LIVE) as session:
        assert session.localise(*batches, 2).first is None


class Packed(nn.Module):
    """Scores between the tokens of all samples, masked to the own one; then a head, with a fault behind it or not."""

    def __init__(self, leak: float) -> None:
        super().__init__()
        self.joint, self.head, self.leak = nn.Linear(8, 24), nn.Linear(8, 3), nn.Identity()
        self.share = leak

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.joint(x.reshape(batch * length, width)).chunk(3, -1)
        owner = torch.arange(batch)[:, None].expand(batch, length).reshape(-1)
        scores = (q @ k.t()).masked_fill(owner[:, None] != owner[None], float("-inf"))
        y = self.head((scores.softmax(-1) @ v).view(batch, length, -1).mean(1))
        return self.leak(y) + self.share * self.leak(y.mean(0, keepdim=True))


def test_what_a_mask_takes_apart_again_is_not_the_place() -> None:
    torch.manual_seed(0)
    generator = np.random.default_rng(1)
    base, other, probe = (generator.normal(size=(5, 4, 8)).astype(np.float32) for _ in range(3))
    companions, changed = other.copy(), base.copy()
    companions[0], changed[0] = base[0], probe[0]
    found = localised(Packed(1e-3).eval(), 0, (base, companions, changed))
    assert found.first is not None
    assert found.first.op == "aten.mean.dim"
    assert "aten.mm.default" in {place.op for place in found.overlaps}
