"""What inputs look like, deduced from the layers: the first candidate is one that runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from runners.torch_networks import LIVE, convnet
from torch import Tensor, nn

from bn_audit.runners.torch_module import session_for
from bn_audit.subject.run import Batch, InputSpec


def drawn(specs: Sequence[InputSpec], count: int = 3) -> Batch:
    chance = np.random.default_rng(0)
    batch = {}
    for spec in specs:
        shape = [count if size is None else size for size in spec.shape]
        if spec.highest is not None:
            batch[spec.name] = chance.integers(0, spec.highest, shape).astype(spec.dtype)
        else:
            batch[spec.name] = chance.standard_normal(shape).astype(spec.dtype)
    return batch


def first_candidate(model: nn.Module) -> tuple[InputSpec, ...]:
    """Return the first candidate, with which the model runs."""
    with session_for(model, LIVE) as session:
        specs = next(session.input_candidates())
        session.run(drawn(specs))
    return specs


def shapes(model: nn.Module) -> list[tuple[object, ...]]:
    return [spec.shape for spec in first_candidate(model)]


class Generator(nn.Module):
    """Takes noise as vectors, and makes images of one pixel of them itself."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(5, 4, 4)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, z: Tensor) -> Tensor:
        return self.norm(self.up(z[:, :, None, None]))


@pytest.mark.parametrize(
    ("model", "shape", "origin"),
    [
        (Generator(), (None, 5), "ConvTranspose2d 'up'"),
        (
            nn.Sequential(nn.ConvTranspose2d(5, 4, 4), nn.Flatten(), nn.Linear(64, 2)),
            (None, 5, 1, 1),
            "ConvTranspose2d '0'",
        ),
        (convnet(), (None, 3, 64, 64), "Conv2d '0'"),
        (nn.Sequential(nn.Conv1d(2, 4, 3), nn.Flatten(1), nn.Linear(4 * 30, 2)), (None, 2, 32), "Conv1d '0'"),
        (nn.Sequential(nn.Conv3d(1, 2, 3)), (None, 1, 16, 16, 16), "Conv3d '0'"),
        (nn.Sequential(nn.ConvTranspose2d(5, 4, 2)), (None, 5, 64, 64), "ConvTranspose2d '0'"),
        (nn.Sequential(nn.Linear(7, 4), nn.BatchNorm1d(4)), (None, 7), "Linear '0'"),
        (nn.Linear(7, 4), (None, 7), "Linear"),
        (nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 2)), (None, 6), "BatchNorm1d '0'"),
        (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 3)), (None, 3, 64, 64), "BatchNorm2d '0'"),
        (nn.GRU(5, 4, batch_first=True), (None, 16, 5), "GRU"),
        (nn.LSTM(5, 4), (16, None, 5), "LSTM, which takes time first"),
        (nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 4)), (None, 784), "Linear '1'"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 26 * 26, 2)), (None, 1, 28, 28), "Conv2d '0'"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 94 * 94, 2)), (None, 3, 96, 96), "Conv2d '0'"),
        (nn.LSTMCell(5, 4), (None, 5), "LSTMCell"),
        (nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 4, 1)), (None, 3, 64, 64), "Conv2d '1'"),
        (nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d()), (None, 3, 64, 64), "Conv2d '0'"),
        (nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 2)), (None, 16, 6), "LayerNorm '0'"),
        (nn.TransformerEncoderLayer(8, 2, batch_first=True), (None, 16, 8), "MultiheadAttention 'self_attn'"),
    ],
)
def test_one_input(model: nn.Module, shape: tuple[object, ...], origin: str) -> None:
    (spec,) = first_candidate(model.eval())
    assert (spec.shape, spec.origin) == (shape, origin)


def test_token_ids_stay_below_the_rows_of_the_table() -> None:
    (spec,) = first_candidate(nn.Sequential(nn.Embedding(11, 4), nn.Linear(4, 2)))
    assert (spec.dtype, spec.highest, spec.shape) == ("int64", 11, (None, 16))


class RegisteredBackwards(nn.Module):
    """The layer that sees the input first is registered last."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.stem = nn.Conv2d(5, 4, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.stem(pixels).mean((2, 3)))


class SeveralInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 4)
        self.numbers = nn.Linear(3, 4)
        self.look = nn.Conv2d(2, 4, 3)

    def forward(self, picture: Tensor, tokens: Tensor, *, numbers: Tensor, scale: float = 1.0) -> Tensor:
        return self.look(picture).mean((2, 3)) + self.words(tokens).mean(1) + self.numbers(numbers) * scale


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.stem(x.permute(0, 3, 1, 2)).mean((2, 3))


class AddsChannel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, 4, 3)

    def forward(self, wave: Tensor) -> Tensor:
        return self.stem(wave.unsqueeze(1)).mean(2)


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 4)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.words(tokens).masked_fill(mask.unsqueeze(-1), 0.0).sum(1)


def test_the_layer_that_sees_the_input_decides_not_the_order_of_registration() -> None:
    assert shapes(RegisteredBackwards()) == [(None, 5, 64, 64)]


def test_several_inputs() -> None:
    specs = {spec.name: (spec.shape, spec.highest) for spec in first_candidate(SeveralInputs())}
    assert specs == {"picture": ((None, 2, 64, 64), None), "tokens": ((None, 16), 9), "numbers": ((None, 3), None)}


def test_inputs_that_the_model_rearranges() -> None:
    assert shapes(ChannelsLast()) == [(None, 64, 64, 3)]
    assert shapes(AddsChannel()) == [(None, 64)]


def test_an_input_that_reaches_no_layer_is_guessed_from_the_others() -> None:
    tokens, mask = first_candidate(Masked())
    assert (tokens.shape, mask.shape, mask.dtype) == ((None, 16), (None, 16), "bool")
    assert mask.origin == "a guess: no layer says what mask is"


class Conditioned(nn.Module):
    """A denoiser: each input is reached only once those before it have the right form."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Conv2d(4, 4, 3, padding=1)
        self.time = nn.Linear(1, 4)
        self.text = nn.Linear(8, 4)

    def forward(self, sample: Tensor, timestep: Tensor, hidden: Tensor) -> Tensor:
        conditions = self.look(sample) + self.time(timestep[:, None].float())[:, :, None, None]
        return conditions + self.text(hidden).mean(1)[:, :, None, None]


def test_inputs_that_depend_on_each_other() -> None:
    assert shapes(Conditioned()) == [(None, 4, 64, 64), (None,), (None, 16, 8)]


class TimeFirst(nn.Module):
    """The default of LSTM, used by a model that takes samples first: only its output tells."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.recurrent(x)[0].mean(1)


def test_samples_lie_along_the_axis_that_the_output_follows() -> None:
    assert shapes(TimeFirst()) == [(None, 16, 6)]


class Decides(nn.Module):
    """Looks at values, which a run without values cannot answer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) if float(x.sum()) > 0 else self.linear(-x)


def test_a_model_that_looks_at_values_falls_back_on_its_first_layers() -> None:
    assert shapes(Decides()) == [(None, 6)]


def test_optional_inputs_are_not_fed_and_wrappers_are_looked_through() -> None:
    class Optional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 2)

        def forward(self, features: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
            return self.linear(features)

    assert [spec.name for spec in first_candidate(nn.DataParallel(Optional()))] == ["features"]


def test_half_precision_models_take_half_precision() -> None:
    assert first_candidate(nn.Linear(3, 2).half())[0].dtype == "float16"


def test_a_model_without_layers_gets_a_guess() -> None:
    class Doubles(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    assert first_candidate(Doubles())[0].origin.startswith("a guess")


def test_looking_for_inputs_leaves_the_model_alone() -> None:
    model = convnet()
    hooks = [len(module._forward_pre_hooks) for module in model.modules()]
    first_candidate(model)
    assert [len(module._forward_pre_hooks) for module in model.modules()] == hooks
    assert not any(tensor.is_meta for tensor in model.parameters())
    assert torch.is_grad_enabled()
