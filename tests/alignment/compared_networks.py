"""One network in every form that can be compared, and the differences that are seeded into copies of it."""

from __future__ import annotations

import copy
import logging
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional


class Network(nn.Module):
    """Batch norms after a convolution, a grouped, a transposed one and a linear layer, one without scale, one alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8, eps=1e-3, momentum=0.03))
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.bn1 = nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.up_norm = nn.BatchNorm2d(6, affine=False)
        self.hidden = nn.Linear(6, 10)
        self.hidden_norm = nn.BatchNorm1d(10)
        self.alone = nn.BatchNorm1d(10)
        self.head = nn.Linear(10, 4)

    def features(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(functional.relu(self.stem(x)))))
        return functional.relu(self.up_norm(self.up(x))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.alone(functional.relu(self.hidden_norm(self.hidden(self.features(x))))))


class TwoHeads(Network):
    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x)
        return self.head(self.alone(functional.relu(self.hidden_norm(self.hidden(features))))), self.extra(features)


def trained() -> Network:
    """A network in evaluation mode whose statistics, scales and shifts are those of no initialisation."""
    torch.manual_seed(0)
    network = Network()
    for layer in batch_norms(network):
        if layer.affine:
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias)
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.3, 3.0)
        layer.num_batches_tracked.fill_(77)
    return network.eval()


def batch_norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


def _sample() -> tuple[Tensor]:
    return (torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(3)),)


def _dynamo(network: nn.Module, path: Path, *, optimize: bool) -> None:
    torch.onnx.export(network, _sample(), path, dynamo=True, external_data=False, verbose=False, optimize=optimize)


def _plain(network: nn.Module, path: Path) -> None:
    preserve = torch.onnx.TrainingMode.PRESERVE
    torch.onnx.export(network, _sample(), path, dynamo=False, training=preserve, do_constant_folding=False)


FORMS: dict[str, Callable[[nn.Module, Path], object]] = {
    "module.pt": torch.save,
    "state_dict.pth": lambda network, path: torch.save(network.state_dict(), path),
    "weights.safetensors": lambda network, path: save_file(network.state_dict(), path),
    "scripted.pt": lambda network, path: torch.jit.script(network).save(str(path)),
    "traced.pt": lambda network, path: torch.jit.trace(network, _sample()).save(str(path)),
    "frozen.pt": lambda network, path: torch.jit.freeze(torch.jit.script(network)).save(str(path)),
    "exported.pt2": lambda network, path: torch.export.save(torch.export.export(network, _sample()), path),
    "dynamo_folded.onnx": lambda network, path: _dynamo(network, path, optimize=True),
    "dynamo_plain.onnx": lambda network, path: _dynamo(network, path, optimize=False),
    "script_folded.onnx": lambda network, path: torch.onnx.export(network, _sample(), path, dynamo=False),
    "script_plain.onnx": _plain,
}
FOLDED = ("frozen.pt", "dynamo_folded.onnx", "script_folded.onnx")
WITHOUT_SETTINGS = ("state_dict.pth", "weights.safetensors")
STATE = ("module.pt", "state_dict.pth", "weights.safetensors", "scripted.pt", "traced.pt", "exported.pt2")
"""Forms that keep the name of every parameter and buffer."""

UNRUNNABLE = ("traced.pt", "script_folded.onnx", "script_plain.onnx")
"""Forms that run the network while they are written."""


def write(network: nn.Module, directory: Path, *, without: tuple[str, ...] = ()) -> None:
    """Write the network in every form but those named."""
    directory.mkdir()
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, save in FORMS.items():
                if name not in without:
                    save(network, directory / name)
    finally:
        logging.disable(disabled)


@dataclass(frozen=True)
class Seed:
    """A difference and where it lies.

    Attributes:
        layer: Path of the batch norm or layer that differs.
        before: Path of the layer that takes it up where it is folded.
    """

    change: Callable[[Network], nn.Module | None]
    layer: str
    before: str = ""
    without: tuple[str, ...] = ()


def _mean(network: Network) -> None:
    network.bn1.running_mean[3] += 0.5


def _eps(network: Network) -> None:
    network.stem[1].eps = 1e-5


def _swap(network: Network) -> None:
    layer = network.hidden_norm
    layer.running_mean.abs_().add_(0.1)  # so that neither becomes negative, which no export survives unharmed
    layer.running_mean, layer.running_var = layer.running_var.clone(), layer.running_mean.clone()


def _drop(network: Network) -> None:
    network.bn1 = nn.Identity()


def _without_buffers(network: Network) -> None:
    layer = network.stem[1]
    layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    layer.track_running_stats = False


def _prefix(network: Network) -> nn.Module:
    return nn.Sequential(OrderedDict(module=network)).eval()


def _half(network: Network) -> None:
    layer = network.hidden_norm
    layer.running_mean, layer.running_var = layer.running_mean.half(), layer.running_var.half()


def _other_epoch(network: Network) -> None:
    generator = torch.Generator().manual_seed(5)
    for layer in batch_norms(network):
        layer.running_mean += 0.1 * torch.randn(layer.running_mean.shape, generator=generator)
        layer.running_var *= 1 + 0.2 * torch.rand(layer.running_var.shape, generator=generator)


def _wrong_fold(network: Network) -> None:
    layer = network.bn1
    scale = layer.weight / torch.sqrt(layer.running_var)  # without eps
    network.conv1.weight.data *= scale[:, None, None, None]
    network.conv1.bias.data = (network.conv1.bias - layer.running_mean) * scale + layer.bias * 1.01
    network.bn1 = nn.Identity()


def _extra_head(network: Network) -> nn.Module:
    other = TwoHeads()
    other.load_state_dict(network.state_dict(), strict=False)
    return other.eval()


SEEDS = {
    "one mean in one channel": Seed(_mean, "bn1", "conv1"),
    "another eps": Seed(_eps, "stem.1", "stem.0"),
    "mean and variance swapped": Seed(_swap, "hidden_norm", "hidden"),
    "a layer dropped": Seed(_drop, "bn1", "conv1"),
    "buffers dropped": Seed(_without_buffers, "stem.1", "stem.0"),
    "a prefix added": Seed(_prefix, ""),
    "half-precision statistics": Seed(_half, "hidden_norm", "hidden", without=UNRUNNABLE),
    "another epoch's statistics": Seed(_other_epoch, "bn1", "conv1"),
    "a wrong fold": Seed(_wrong_fold, "bn1", "conv1"),
    "an extra head": Seed(_extra_head, "extra"),
}


def seeded(name: str) -> nn.Module:
    """Return the network with one difference."""
    network = copy.deepcopy(trained())
    with torch.no_grad():
        return SEEDS[name].change(network) or network
