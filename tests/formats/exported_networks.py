"""Networks whose exported programs the tests read, with what torch says about their norm layers."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from bn_audit.containers.source import Source
from bn_audit.containers.target import FileTarget
from bn_audit.formats.exported_program import FORMAT
from bn_audit.subject.subject import Subject

BATCH = 4


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4, eps=1e-3, momentum=0.01))
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        x = functional.relu(x + self.norm(self.conv(x)))
        return self.head(x.mean((2, 3)))


class TwiceCalled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.norm(x)))


class Functional(nn.Module):
    """Calls batch norm as a function, with statistics of the batch whatever the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(self.conv(x), None, None, training=True)


class OwnTensors(nn.Module):
    """Keeps the tensors of a batch norm without being one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3))
        self.bias = nn.Parameter(torch.rand(3))
        self.register_buffer("running_mean", torch.rand(3))
        self.register_buffer("running_var", torch.rand(3) + 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.3, 2e-3
        )


class StandardisedConv(nn.Conv2d):
    """Weight standardisation as timm writes it."""

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = functional.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-6).reshape_as(self.weight)
        return functional.conv2d(x, weight, self.bias, padding=1)


class FoldedGroups(nn.Module):
    """Group norm written with batch norm over samples folded into the channels."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        folded = x.reshape(1, n * 2, c // 2, h, w)
        return functional.batch_norm(folded, None, None, training=True).reshape(n, c, h, w)


class StatisticsFromBatch(nn.Module):
    """Inference form, over statistics that the graph computes from the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(x, x.mean((0, 2, 3)), x.var((0, 2, 3)), training=False)


def _rnn_features() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 4, 3, padding=1), nn.BatchNorm1d(4, momentum=None), nn.Flatten(), nn.Linear(20, 2)
    )


IMAGE, CLIP, VECTOR, SERIES = (3, 5, 5), (2, 3, 4, 4), (6,), (3, 5)

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, IMAGE),
    "mlp": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, affine=False), nn.ReLU(), nn.Linear(5, 2)),
        VECTOR,
    ),
    "series": (_rnn_features, SERIES),
    "video": (lambda: nn.Sequential(nn.Conv3d(2, 3, 2), nn.BatchNorm3d(3), nn.ReLU()), CLIP),
    "no_track": (lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)), IMAGE),
    "bare_norm": (lambda: nn.BatchNorm2d(3, momentum=0.7), IMAGE),
    "twice_called": (TwiceCalled, IMAGE),
    "own_tensors": (lambda: nn.Sequential(nn.Conv2d(3, 3, 1), OwnTensors()), IMAGE),
    "instance_norm": (lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4, affine=True)), IMAGE),
    "tracked_instance_norm": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4, track_running_stats=True), nn.ReLU()),
        IMAGE,
    ),
    "two_instance_norms": (
        lambda: nn.Sequential(nn.InstanceNorm2d(3), nn.ReLU(), nn.InstanceNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3)),
        IMAGE,
    ),
    "no_norm": (lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4)), IMAGE),
}
"""Networks whose norm layers are modules."""

CALLS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "functional": (Functional, IMAGE),
    "weight_standardised": (lambda: nn.Sequential(StandardisedConv(3, 4, 3), nn.ReLU()), IMAGE),
    "folded_groups": (lambda: nn.Sequential(nn.Conv2d(3, 4, 1), FoldedGroups()), IMAGE),
}
"""Networks whose norm calls belong to no norm module."""

MODES = ("train", "eval", "mixed")
FORMS = ("static", "dynamic", "decomposed")


def norm_modules(model: nn.Module) -> dict[str, nn.Module]:
    kinds = (nn.modules.batchnorm._NormBase, OwnTensors)
    return {path: module for path, module in model.named_modules() if isinstance(module, kinds)}


@cache
def network(name: str, mode: str) -> nn.Module:
    """Return the network after one training step; "mixed" evaluates but for every other norm layer."""
    build, sample = (NETWORKS | CALLS)[name]
    torch.manual_seed(len(name))
    model = build().train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.rand_like(parameter))
        model(torch.randn(BATCH, *sample) * 2 + 1)
    model.train(mode == "train")
    if mode == "mixed":
        for module in list(norm_modules(model).values())[1::2]:
            module.train()
    return model


def quietly(action: Callable[[], object]) -> object:
    """Return what the action returns; torch.export warns and logs about things that do not matter here."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return action()
    finally:
        logging.disable(logging.NOTSET)


def export(model: nn.Module, sample: tuple[int, ...], form: str) -> torch.export.ExportedProgram:
    inputs = (torch.randn(BATCH, *sample),)
    dynamic = None if form == "static" else ({0: torch.export.Dim.DYNAMIC},)

    def run() -> torch.export.ExportedProgram:
        program = torch.export.export(model, inputs, dynamic_shapes=dynamic)
        return program.run_decompositions() if form == "decomposed" else program

    return quietly(run)


@cache
def exported(name: str, mode: str, form: str) -> torch.export.ExportedProgram:
    return export(network(name, mode), (NETWORKS | CALLS)[name][1], form)


def save(program: torch.export.ExportedProgram, path: Path) -> Path:
    quietly(lambda: torch.export.save(program, path))
    return path


def target(path: Path) -> FileTarget:
    return FileTarget(Source(path))


def read(path: Path) -> Subject:
    """Return what the format reads, once it has recognised the file."""
    found = target(path)
    assert FORMAT.sniff(found)
    return FORMAT.read(found)


def data(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
