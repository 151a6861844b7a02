"""Networks around unusual norm layers, settings, dtypes and wrappers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.norms import (
    ActivatedNorm,
    FrozenBatchNorm2d,
    HandmadeNorm,
    InPlaceNorm,
    RunningMeanStd,
    StandardisedConv2d,
)


class ConvNet(nn.Module):
    """Two convolutions, each followed by the given layer."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.norm1 = first
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.norm2 = second

    def forward(self, x: Tensor) -> Tensor:
        return self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))


class Wrapped(nn.Module):
    """A library's network inside one's own module."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.backbone(x))


class HiddenNorms(nn.Module):
    """Batch norms in a plain list and a plain dict, where eval() does not reach them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.bn = nn.BatchNorm2d(4)
        self.hidden = [nn.BatchNorm2d(4), nn.ReLU()]
        self.by_name = {"last": nn.BatchNorm2d(4)}
        self.alias = [self.bn]

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        for layer in self.hidden:
            x = layer(x)
        return self.by_name["last"](x)


class NormalisedPolicy(nn.Module):
    """Reinforcement learning: an observation normaliser, no batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.obs_rms = RunningMeanStd(5)
        self.policy = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.policy(self.obs_rms(x))


class NormFactory(nn.Module):
    """Keeps the class of its norm layers as an attribute, as torchvision's ResNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_layer = nn.BatchNorm2d
        self._norm_layer = nn.SyncBatchNorm
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.GroupNorm(2, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


def frozen() -> nn.Module:
    net = ConvNet(FrozenBatchNorm2d(4), FrozenBatchNorm2d(6))
    net.norm2.num_features = 6
    return net


def parameter_state() -> nn.Module:
    net = ConvNet(nn.BatchNorm2d(4), nn.BatchNorm2d(6))
    net.conv1.weight.sharding = "columns"
    net.norm1.weight.no_weight_decay = True
    net.norm2.bias.tags = {"group": [1, 2]}
    return net


def strided_tensors() -> nn.Module:
    """Batch norm tensors that are views into larger storages: one with a stride, one with an offset."""
    net = ConvNet(nn.BatchNorm2d(4), nn.BatchNorm2d(6))
    net.norm1.running_var = torch.rand(4, 3)[:, 1]
    pool = torch.rand(20)
    net.norm2.running_mean, net.norm2.running_var = pool[3:9], pool[11:17]
    return net


def hooked() -> nn.Module:
    """Spectral and weight normalisation by hooks, which survive pickling."""
    import warnings

    net = ConvNet(nn.BatchNorm2d(4), nn.BatchNorm2d(6))
    nn.utils.spectral_norm(net.conv1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.weight_norm(net.conv2)
    return net


def parametrised() -> nn.Module:
    net = ConvNet(nn.BatchNorm2d(4), nn.BatchNorm2d(6))
    nn.utils.parametrizations.spectral_norm(net.conv1)
    nn.utils.parametrizations.weight_norm(net.conv2)
    return net


def quantisation_aware() -> nn.Module:
    from torch.ao.nn.intrinsic.qat import ConvBn2d
    from torch.ao.quantization import get_default_qat_qconfig

    qconfig = get_default_qat_qconfig("fbgemm")
    return nn.Sequential(
        ConvBn2d(3, 4, 3, padding=1, qconfig=qconfig), nn.ReLU(), ConvBn2d(4, 6, 3, eps=1e-3, qconfig=qconfig)
    )


def averaged() -> nn.Module:
    return torch.optim.swa_utils.AveragedModel(ConvNet(nn.BatchNorm2d(4), nn.BatchNorm2d(6)))


def compiled() -> nn.Module:
    return torch.compile(ConvNet(nn.BatchNorm2d(4), nn.BatchNorm2d(6)), backend="eager")


def materialised() -> nn.Module:
    net = ConvNet(nn.LazyBatchNorm2d(), nn.LazyBatchNorm2d(momentum=0.4))
    net(torch.randn(2, 3, 6, 6))
    return net


def lookalikes() -> nn.Module:
    return ConvNet(HandmadeNorm(4), InPlaceNorm(6))


def subclassed() -> nn.Module:
    return ConvNet(ActivatedNorm(4, 0.2), ActivatedNorm(6, 0.1))


def weight_standardised() -> nn.Module:
    net = ConvNet(nn.BatchNorm2d(4), nn.BatchNorm2d(6))
    net.conv2 = StandardisedConv2d(4, 6, 3, padding=1)
    return net
