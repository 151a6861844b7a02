"""Layers that are a batch norm without being torch's class, and layers that only look like one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn import functional


class ActivatedNorm(nn.BatchNorm2d):
    """A subclass of torch's batch norm with an activation and a further attribute."""

    def __init__(self, num_features: int, slope: float) -> None:
        super().__init__(num_features, eps=2e-5, momentum=0.2)
        self.slope = slope

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return functional.leaky_relu(super().forward(input), self.slope)


class HandmadeNorm(nn.Module):
    """Batch norm written from scratch, as tutorials and research code do."""

    def __init__(self, num_features: int, eps: float = 1e-4, momentum: float = 0.3) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            mean, var = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3))
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(var, self.momentum)
        else:
            mean, var = self.running_mean, self.running_var
        scale = self.weight * (var + self.eps).rsqrt()
        return x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]


class InPlaceNorm(nn.Module):
    """The layout of mapillary's InPlaceABN: batch norm and activation in one, without a batch counter."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.affine = True
        self.eps = 1e-5
        self.momentum = 0.1
        self.activation = "leaky_relu"
        self.activation_param = 0.01
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )
        return functional.leaky_relu(x, self.activation_param)


class FrozenBatchNorm2d(nn.Module):
    """The layout of torchvision.ops.FrozenBatchNorm2d: four buffers and eps."""

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return x * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]


class RunningMeanStd(nn.Module):
    """Observation normaliser of reinforcement learning: statistics over time, the batch never matters."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.epsilon = 1e-5
        self.register_buffer("running_mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("running_var", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.count += x.shape[0]
                self.running_mean += (x.double().mean(0) - self.running_mean) * x.shape[0] / self.count
                self.running_var += (x.double().var(0) - self.running_var) * x.shape[0] / self.count
        return ((x - self.running_mean.float()) / (self.running_var.float() + self.epsilon).sqrt()).clamp(-5, 5)


class StandardisedConv2d(nn.Conv2d):
    """Weight standardisation as timm writes it: a batch norm in training form, over the weight."""

    def forward(self, x: Tensor) -> Tensor:
        weight = functional.batch_norm(
            self.weight.reshape(1, self.out_channels, -1), None, None, training=True, momentum=0.0, eps=1e-6
        ).reshape_as(self.weight)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding)


VANISHED_MODULE = "a_library_that_is_not_installed"

_VANISHED_SOURCE = """
import torch
from torch import nn

class FancyNorm(nn.BatchNorm2d):
    pass

class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = FancyNorm(4, eps=5e-5)
        self.plain = nn.BatchNorm2d(4)

    def forward(self, x):
        return self.plain(torch.relu(self.norm(self.conv(x))))
"""


@cache
def _vanished_library() -> ModuleType:
    library = ModuleType(VANISHED_MODULE)
    exec(compile(_VANISHED_SOURCE, VANISHED_MODULE, "exec"), library.__dict__)
    return library


@contextmanager
def vanished_library() -> Iterator[ModuleType]:
    """Provide a third-party library while the block runs: to build with and to save, never to read."""
    outermost = VANISHED_MODULE not in sys.modules
    sys.modules[VANISHED_MODULE] = _vanished_library()
    try:
        yield sys.modules[VANISHED_MODULE]
    finally:
        if outermost:
            del sys.modules[VANISHED_MODULE]
