"""Networks that look alike, of which one lets samples meet, as functions of (B, ...) tensors and as modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from aten_programs import Draw, floats, integers
from torch import Tensor, nn

ROWS = 6
IMAGE = (3, 8, 8)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One network.

    Attributes:
        build: Returns it.
        draws: Its inputs.
        truth: The verdict of a program with an open batch axis, as measured.
        static: The verdict where the batch size is fixed; None where it is the same.
        dynamic: torch.export accepts an open batch axis.
        random: It draws numbers.
        undecided: The proof is known to leave it open.
    """

    build: Callable[[], nn.Module]
    draws: Sequence[Draw]
    truth: str
    static: str | None = None
    dynamic: bool = True
    random: bool = False
    undecided: bool = False


class Head(nn.Module):
    """A linear layer, then the function under test."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(ROWS, ROWS), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


def vector(function: Callable[[Tensor], Tensor], truth: str, **settings: object) -> Case:
    return Case(build=lambda: Head(function), draws=[floats(ROWS)], truth=truth, **settings)


def in_place(x: Tensor, dim: int) -> Tensor:
    """Change one row or column of a copy, then read the whole through a view made before."""
    y = x.clone()
    view = y.view(-1, ROWS)
    y.select(dim, 0).add_(x.select(dim, 1))
    return view * 2


def shifted(x: Tensor) -> Tensor:
    y = x.clone()
    y[1:] += 0.1 * x[:-1]
    return y


VECTORS: dict[str, Case] = {
    "mean of the features": vector(lambda x: x - x.mean(1, keepdim=True), "independent"),
    "mean of the batch": vector(lambda x: x - x.mean(0, keepdim=True), "mixes"),
    "softmax over features": vector(lambda x: x.softmax(1), "independent"),
    "softmax over the batch": vector(lambda x: x.softmax(0), "mixes"),
    "flatten within rows": vector(lambda x: x.view(-1, 2, 3).flatten(1) * 2, "independent"),
    "flatten over rows": vector(lambda x: x.flatten().view(ROWS, -1).t().reshape(-1, ROWS), "mixes"),
    "min-max of a row": vector(lambda x: (x - x.amin(1, True)) / (x.amax(1, True) - x.amin(1, True)), "independent"),
    "min-max of the batch": vector(lambda x: (x - x.min()) / (x.max() - x.min()), "mixes"),
    "normalised rows": vector(lambda x: F.normalize(x, dim=1), "independent"),
    "normalised columns": vector(lambda x: F.normalize(x, dim=0), "mixes"),
    "flipped features": vector(lambda x: x + 0.1 * x.flip(1), "independent"),
    "flipped batch": vector(lambda x: x + 0.1 * x.flip(0), "mixes"),
    "sums along a row": vector(lambda x: x.cumsum(1), "independent"),
    "sums along the batch": vector(lambda x: x + 0.1 * (x.cumsum(0) - x), "mixes"),
    "position of the feature": vector(lambda x: x + torch.arange(ROWS), "independent"),
    "position of the row": vector(lambda x: x + torch.arange(x.shape[0])[:, None], "position"),
    "number of features": vector(lambda x: x * x.shape[1], "independent"),
    "number of rows": vector(lambda x: x * (1 + 0.05 * x.shape[0]), "size", static="independent"),
    "similarity of rows": vector(lambda x: x @ x.t(), "mixes"),
    "similarity within a row": vector(lambda x: x[:, :, None] @ x[:, None, :], "independent"),
    "mean of all": vector(lambda x: x.mean(), "mixes"),
    "rolled features": vector(lambda x: x.roll(1, 1), "independent"),
    "rolled batch": vector(lambda x: x.roll(1, 0), "mixes"),
    "sorted features": vector(lambda x: x.sort(1)[0], "independent"),
    "sorted batch": vector(lambda x: x.sort(0)[0], "mixes"),
    "best of a row": vector(lambda x: x.topk(2, 1)[0], "independent"),
    "rank in the batch": vector(lambda x: x * x[:, 0].argsort().argsort()[:, None], "mixes"),
    "variance of a row": vector(lambda x: x / x.std(1, keepdim=True), "independent"),
    "variance of the batch": vector(lambda x: x / x.std(0, keepdim=True), "mixes"),
    "each sample with itself": vector(lambda x: torch.einsum("bi,bj->bij", x, x), "independent"),
    "all samples with all": vector(lambda x: torch.einsum("bi,cj->bc", x, x), "mixes"),
    "zero times the batch": vector(lambda x: x + 0.0 * x.mean(0, keepdim=True), "independent"),
    "masked self out": vector(lambda x: x + (x @ x.t()) @ x * 0.1, "mixes"),
    "block diagonal": vector(
        lambda x: ((x @ x.t()).masked_fill(~torch.eye(x.shape[0], dtype=torch.bool), 0.0)) @ x, "independent"
    ),
    "diagonal attention": vector(
        lambda x: (x @ x.t()).masked_fill(~torch.eye(x.shape[0], dtype=torch.bool), float("-inf")).softmax(1) @ x,
        "independent",
    ),
    "column in place": vector(lambda x: in_place(x, 1), "independent"),
    "row in place": vector(lambda x: in_place(x, 0), "mixes"),
    "rows shifted in place": vector(shifted, "mixes", dynamic=False),
    "unbound and stacked": vector(lambda x: torch.stack([a * 2 for a in x.unbind(1)], 1), "independent"),
    "windows along a row": vector(lambda x: x.unfold(1, 3, 1).mean(-1), "independent"),
    "gathered features": vector(lambda x: x.gather(1, x.argsort(1)), "independent"),
    "gathered rows": vector(lambda x: x[x[:, 0].argsort()], "mixes", undecided=True),
    "best feature": vector(lambda x: x[torch.arange(x.shape[0]), x.argmax(1)], "independent"),
    "scattered features": vector(lambda x: torch.zeros_like(x).scatter(1, x.argsort(1), x), "independent"),
    "first row": vector(lambda x: x + x[:1], "mixes"),
    **{
        f"leak of {leak:g}": vector(lambda x, leak=leak: x + leak * x.mean(0, keepdim=True), "mixes")
        for leak in (1e-3, 1e-5, 1e-7)
    },
}


class Attention(nn.Module):
    """Multi-head attention over tokens, or over samples by mistake."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(ROWS, 2, batch_first=batch_first)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, x, x)[0]


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], *, batch_first: bool, bidirectional: bool = False) -> None:
        super().__init__()
        self.layer = kind(ROWS, 5, batch_first=batch_first, bidirectional=bidirectional)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


class InstanceNormByReshape(nn.Module):
    """InstanceNorm as a batch norm over (1, B * C, H, W), which lets nothing meet."""

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return F.batch_norm(x.reshape(1, b * c, h, w), None, None, training=True).reshape(b, c, h, w)


class StandardisedConv(nn.Conv2d):
    """Weight standardisation written as a batch norm of the weights."""

    def forward(self, x: Tensor) -> Tensor:
        weight = F.batch_norm(self.weight.reshape(1, self.out_channels, -1), None, None, training=True)
        return F.conv2d(x, weight.reshape_as(self.weight), self.bias)


class BatchDeviation(nn.Module):
    """The minibatch-stddev layer of progressive GANs."""

    def forward(self, x: Tensor) -> Tensor:
        deviation = (x.var(0, unbiased=False) + 1e-8).sqrt().mean()
        return torch.cat([x, deviation.expand(x.shape[0], 1, *x.shape[2:])], 1)


class Windows(nn.Module):
    """Attention in windows with queries of the whole image, repeated for its windows in the right order or not."""

    def __init__(self, *, confused: bool) -> None:
        super().__init__()
        self.qkv, self.query, self.confused = nn.Linear(3, 9), nn.Linear(3, 16 * 3), confused

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        folded = x.view(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
        _, k, v = self.qkv(folded).chunk(3, -1)
        q = self.query(x.mean((2, 3))).view(b, 16, c)
        times = folded.shape[0] // b
        q = q.repeat(times, 1, 1) if self.confused else q.repeat_interleave(times, 0)
        y = F.scaled_dot_product_attention(q, k, v)
        return y.view(b, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)


class Experts(nn.Module):
    """A mixture of experts that are all computed, the best one chosen by a one-hot mask for each token."""

    def __init__(self, *, capacity: int | None = None) -> None:
        super().__init__()
        self.gate, self.capacity = nn.Linear(ROWS, 3), capacity
        self.experts = nn.ModuleList(nn.Linear(ROWS, ROWS) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        chosen = F.one_hot(self.gate(x).argmax(-1), 3)
        if self.capacity is not None:
            chosen = chosen * (chosen.cumsum(0) <= self.capacity)
        return sum(chosen[:, i, None] * expert(x) for i, expert in enumerate(self.experts))


class Squeezed(nn.Module):
    """Drops every axis of size 1; correct where there is more than one sample."""

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, 1).squeeze()


class AveragedStatistics(nn.Module):
    """Updates running statistics with the batch and normalises with them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("variance", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        self.mean.mul_(0.9).add_(0.1 * x.mean((0, 2, 3)))
        self.variance.mul_(0.9).add_(0.1 * x.var((0, 2, 3)))
        return (x - self.mean[:, None, None]) / self.variance[:, None, None].sqrt()


class Embedded(nn.Module):
    def __init__(self, axis: int) -> None:
        super().__init__()
        self.table, self.axis = nn.Embedding(11, ROWS), axis

    def forward(self, x: Tensor) -> Tensor:
        return self.table(x) - self.table(x).mean(self.axis, keepdim=True)


class Branch(nn.Module):
    """Takes one of two ways, by the batch as a whole or by nothing at all."""

    def __init__(self, *, by_batch: bool) -> None:
        super().__init__()
        self.by_batch = by_batch
        self.register_buffer("level", torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        decider = x.mean() if self.by_batch else self.level
        return torch.cond(decider > 0, lambda y: y * 2, lambda y: y + 1, (x,))


def trained(module: nn.Module) -> nn.Module:
    return module.train()


TOKENS = [floats(5, ROWS)]
PICTURE = [floats(*IMAGE)]
MODULES: dict[str, Case] = {
    "attention over tokens": Case(build=lambda: Attention(batch_first=True), draws=TOKENS, truth="independent"),
    "attention over samples": Case(build=lambda: Attention(batch_first=False), draws=TOKENS, truth="mixes"),
    **{
        f"{kind.__name__} {name}": Case(
            build=lambda kind=kind, first=first: Recurrent(kind, batch_first=first),
            draws=TOKENS,
            truth="independent" if first else "mixes",
            dynamic=first,
        )
        for kind in (nn.LSTM, nn.GRU, nn.RNN)
        for first, name in ((True, "batch first"), (False, "batch last"))
    },
    "LSTM both ways": Case(
        build=lambda: Recurrent(nn.LSTM, batch_first=True, bidirectional=True), draws=TOKENS, truth="independent"
    ),
    "LSTM both ways, batch last": Case(
        build=lambda: Recurrent(nn.LSTM, batch_first=False, bidirectional=True),
        draws=TOKENS,
        truth="mixes",
        dynamic=False,
    ),
    "batch norm, training": Case(build=lambda: trained(nn.BatchNorm2d(3)), draws=PICTURE, truth="mixes"),
    "batch norm": Case(build=lambda: nn.BatchNorm2d(3).eval(), draws=PICTURE, truth="independent"),
    "batch norm without statistics": Case(
        build=lambda: nn.BatchNorm2d(3, track_running_stats=False).eval(), draws=PICTURE, truth="mixes"
    ),
    "instance norm": Case(build=lambda: nn.InstanceNorm2d(3), draws=PICTURE, truth="independent"),
    "instance norm by reshape": Case(build=InstanceNormByReshape, draws=PICTURE, truth="independent"),
    "weight standardisation": Case(build=lambda: StandardisedConv(3, 4, 3), draws=PICTURE, truth="independent"),
    "group norm": Case(build=lambda: nn.GroupNorm(1, 3), draws=PICTURE, truth="independent"),
    "minibatch deviation": Case(build=BatchDeviation, draws=PICTURE, truth="mixes"),
    "windows": Case(build=lambda: Windows(confused=False), draws=PICTURE, truth="independent"),
    "windows confused": Case(build=lambda: Windows(confused=True), draws=PICTURE, truth="mixes"),
    "one-hot experts": Case(build=Experts, draws=[floats(ROWS)], truth="independent"),
    "experts with capacity": Case(build=lambda: Experts(capacity=1), draws=[floats(ROWS)], truth="mixes"),
    "squeezed": Case(build=Squeezed, draws=PICTURE, truth="independent"),
    "averaged statistics": Case(build=AveragedStatistics, draws=PICTURE, truth="mixes"),
    "embedding over tokens": Case(build=lambda: Embedded(1), draws=[integers(11, 5)], truth="independent"),
    "embedding over samples": Case(build=lambda: Embedded(0), draws=[integers(11, 5)], truth="mixes"),
    "branch by nothing": Case(build=lambda: Branch(by_batch=False), draws=[floats(ROWS)], truth="independent"),
    "branch by the batch": Case(build=lambda: Branch(by_batch=True), draws=[floats(ROWS)], truth="mixes"),
    "dropout": Case(build=lambda: trained(nn.Dropout(0.5)), draws=[floats(ROWS)], truth="independent", random=True),
}
