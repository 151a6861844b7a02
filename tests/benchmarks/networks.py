"""A residual network of any depth, and the artifacts made from it; run as a script, it writes one artifact."""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

RESNET_152 = (3, 8, 36, 3)
SMALL = (2, 2, 2, 2)


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, planes: int, stride: int, scale: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, scale, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3 * scale, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * 4, scale, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.downsample = nn.Identity()
        if stride != 1 or inputs != planes * 4:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, planes * 4, scale, stride, bias=False), nn.BatchNorm2d(planes * 4)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        return torch.relu(self.bn3(self.conv3(out)) + self.downsample(x))


class ResNet(nn.Module):
    """ResNet of He et al. 2016, table 1, without the stem's pooling.

    With `scale` 2 every convolution has four times the weights and nothing else changes; such a network is only
    saved, never run.
    """

    def __init__(self, depths: tuple[int, ...], scale: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        stages = []
        channels = 64
        for stage, depth in enumerate(depths):
            planes = 64 * 2**stage
            blocks = []
            for index in range(depth):
                blocks.append(Bottleneck(channels, planes, 2 if index == 0 and stage else 1, scale))
                channels = planes * 4
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(channels, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(self.stages(x).mean(dim=(2, 3)))


def trained(depths: tuple[int, ...], scale: int = 1) -> ResNet:
    """Return a network whose batch norms look trained: nothing is at its initial value."""
    torch.manual_seed(0)
    model = ResNet(depths, scale)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_()
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 2.0)
                layer.num_batches_tracked.fill_(1000)
    return model


def write(kind: str, path: Path) -> None:
    """Write one artifact: the module, state dict, TorchScript or exported program, or a smaller module."""
    match kind:
        case "module":
            torch.save(trained(RESNET_152), path)
        case "state-dict":
            torch.save(trained(RESNET_152).state_dict(), path)
        case "torchscript":
            torch.jit.script(trained(RESNET_152)).save(str(path))
        case "exported-program":
            torch.export.save(torch.export.export(trained(RESNET_152).eval(), (torch.randn(2, 3, 64, 64),)), path)
        case "small":
            torch.save(trained(SMALL), path)
        case "small-heavy":
            torch.save(trained(SMALL, scale=2), path)
        case "tiny":
            torch.save(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), path)
        case _:
            raise ValueError(f"unknown artifact {kind!r}")


if __name__ == "__main__":
    # Under its importable name, so that the pickled classes can be found when the file is loaded.
    import networks

    networks.write(sys.argv[1], Path(sys.argv[2]))
