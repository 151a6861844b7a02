"""Ordinary architectures, a few channels wide."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class PlainCNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.fc(x.mean(dim=(2, 3)))


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if stride != 1
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(BasicBlock(4, 4), BasicBlock(4, 4))
        self.layer2 = nn.Sequential(BasicBlock(4, 8, 2), BasicBlock(8, 8))
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(self.layer2(self.layer1(x)).mean(dim=(2, 3)))


class DenseLayer(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(torch.relu(self.norm(x)))], 1)


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))
        for index in range(3):
            self.features.add_module(f"denselayer{index + 1}", DenseLayer(4 + 2 * index, 2))
        self.features.add_module("norm_last", nn.BatchNorm2d(10))
        self.classifier = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.relu(self.features(x)).mean(dim=(2, 3)))


def _conv_bn_relu6(inputs: int, outputs: int, size: int, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
        nn.ReLU6(inplace=True),
    )


class MobileNet(nn.Module):
    """Depthwise separable convolutions with TensorFlow's eps and momentum."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _conv_bn_relu6(3, 6, 3),
            _conv_bn_relu6(6, 6, 3, groups=6),
            _conv_bn_relu6(6, 12, 1),
        )
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean(dim=(2, 3)))


class DoubleConv(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inc = DoubleConv(3, 4)
        self.down = DoubleConv(4, 8)
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)
        self.merge = DoubleConv(8, 4)
        self.out = nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.inc(x)
        deep = self.down(functional.max_pool2d(skip, 2))
        return self.out(self.merge(torch.cat([self.up(deep), skip], 1)))


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(7, 9), nn.BatchNorm1d(9), nn.Tanh(), nn.Linear(9, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class VideoNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(2, 4, 3, padding=1)
        self.bn_a = nn.BatchNorm3d(4)
        self.body = nn.Conv3d(4, 4, (1, 3, 3), padding=(0, 1, 1))
        self.bn_b = nn.BatchNorm3d(4, momentum=0.05)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn_b(self.body(torch.relu(self.bn_a(self.stem(x)))))


class RecurrentNet(nn.Module):
    """An LSTM between two batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.bn_in = nn.BatchNorm1d(5)
        self.lstm = nn.LSTM(5, 6, batch_first=True)
        self.bn_out = nn.BatchNorm1d(6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden, _ = self.lstm(self.bn_in(x.transpose(1, 2)).transpose(1, 2))
        return self.head(self.bn_out(hidden[:, -1]))


class SharedNorm(nn.Module):
    """One batch norm registered under two names and called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 1)
        self.conv2 = nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.norm_again = self.norm
        self.norm_last = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv1(x)))
        return self.norm_last(self.norm_again(self.conv2(x)))


class Nested(nn.Module):
    """Sequential in ModuleList in ModuleDict, with keys that are no plain identifiers."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, 4, 1), nn.BatchNorm2d(4), nn.ReLU()) for channels in (3, 4)
        )
        self.heads = nn.ModuleDict(
            {
                "class-a": nn.ModuleList([nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))]),
                "box": nn.ModuleList([nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))]),
            }
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for stage in self.stages:
            x = stage(x)
        return self.heads["class-a"][0](x), self.heads["box"][0](x)


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(6, 8, 4, 1, 0, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(True),
            nn.ConvTranspose2d(8, 4, 4, 2, 1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(True),
            nn.ConvTranspose2d(4, 3, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, noise: Tensor) -> Tensor:
        return self.main(noise)


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3))
        self.norm = nn.BatchNorm1d(4)

    def embed(self, x: Tensor) -> Tensor:
        return self.norm(self.branch(x).mean(dim=(2, 3)))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return (self.embed(left) - self.embed(right)).abs().sum(1)


class Transformer(nn.Module):
    """Layer norms only."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.block(self.embed(x)))


class GroupNormOnly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.gn = nn.GroupNorm(2, 4)
        self.ln = nn.LayerNorm([4, 4, 4])

    def forward(self, x: Tensor) -> Tensor:
        return self.ln(self.gn(self.conv(x)))


class WithDropout(nn.Module):
    """Batch norm beside dropout, which evaluation switches off."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(7, 8)
        self.bn = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.3)
        self.fc2 = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.drop(torch.relu(self.bn(self.fc1(x)))))
