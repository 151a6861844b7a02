"""Small networks for the TorchScript tests: modules, functional calls, and norms in disguise."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Plain(nn.Module):
    def __init__(self, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = norm or nn.BatchNorm2d(4, eps=1e-3, momentum=0.3)
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.bn(self.conv(x)))


class Functional(nn.Module):
    """Calls the function with a literal flag; with and without statistics."""

    def __init__(self, tracked: bool, training: bool) -> None:
        super().__init__()
        self.tracked = tracked
        self.train_form = training
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("var", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        if self.tracked:
            if self.train_form:
                return F.batch_norm(x, self.mean, self.var, None, None, True, 0.25, 1e-4)
            return F.batch_norm(x, self.mean, self.var, None, None, False, 0.25, 1e-4)
        return F.batch_norm(x, None, None, None, None, True, 0.25, 1e-4)


class GatedByFlag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("var", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.var, None, None, self.training, 0.1, 1e-5)


class FromCaller(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("var", torch.ones(3))

    def forward(self, x: Tensor, train: bool = False) -> Tensor:
        return F.batch_norm(x, self.mean, self.var, None, None, train, 0.1, 1e-5)


class Standardised(nn.Conv2d):
    """Weight standardisation, as timm and big_vision write it."""

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-6).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias)


class DisguisedInstanceNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        size = x.shape
        folded = x.reshape(1, size[0] * size[1], size[2], size[3])
        return F.batch_norm(folded, None, None, None, None, True, 0.1, 1e-5).view(size[0], size[1], size[2], size[3])


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.blocks = nn.ModuleList([Plain(nn.BatchNorm2d(4)) for _ in range(2)])
        for block in self.blocks:
            block.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return x


class Standardising(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = Standardised(3, 4, 3)
        self.norm = nn.GroupNorm(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": Plain,
    "residual": Residual,
    "untracked": lambda: Plain(nn.BatchNorm2d(4, track_running_stats=False)),
    "cumulative": lambda: Plain(nn.BatchNorm2d(4, momentum=None)),
    "instance": lambda: Plain(nn.InstanceNorm2d(4, affine=True)),
    "tracked-instance": lambda: Plain(nn.InstanceNorm2d(4, track_running_stats=True)),
    "functional-train": lambda: Functional(True, True),
    "functional-eval": lambda: Functional(True, False),
    "functional-untracked": lambda: Functional(False, True),
    "gated": GatedByFlag,
    "standardised": Standardising,
    "disguised-instance": DisguisedInstanceNorm,
}
