"""Small networks to run, the mistakes to put into them, and batches for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bn_audit.subject.run import Array, Job

LIVE = Job(source="<live>", format="live-module")
BATCH = 5


class Sum(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Counter(nn.Module):
    """Counts its calls in a Python attribute, where no state dict shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * (1 + 0.1 * self.calls)


class FunctionalNorm(nn.Module):
    """Normalises with the batch whatever its mode."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(x, None, None, self.weight, self.bias, training=True)


def convnet(seed: int = 0) -> nn.Sequential:
    """Return a trained-looking network over images of three channels, in evaluation mode."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)),
    )
    model(torch.randn(16, 3, 12, 12) * 2 + 0.5)
    return model.eval()


def with_operation(function: Callable[[Tensor], Tensor], after: int = 3) -> nn.Sequential:
    """Return the network with one more operation behind one of its layers."""
    model = convnet()
    model[after] = nn.Sequential(model[after], Sum(function)).eval()
    return model


def training(*layers: int) -> nn.Sequential:
    """Return the network with these layers left in training mode."""
    model = convnet()
    for layer in layers:
        model[layer].train()
    return model


def images(count: int = BATCH, seed: int = 0, side: int = 12) -> Array:
    """Return distinct random images."""
    return np.random.default_rng(seed).standard_normal((count, 3, side, side)).astype(np.float32)


def colours(index: int = 0) -> tuple[Array, Array, Array]:
    """Return a batch, the same with other companions of row `index`, and the same with another such row."""
    base, other = images(), images(seed=1)
    companions, probe = other.copy(), base.copy()
    companions[index], probe[index] = base[index], other[index]
    return base, companions, probe
