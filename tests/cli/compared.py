"""A small detector, trained a little, in many artifacts: what ``compare`` is tried on."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

FACTORY = """
import sys
sys.path.insert(0, {tests!r})
import torch
from compared import Detector

def make():
    return Detector().eval()

def wider():
    return Detector(channels=9).eval()

def trained():
    net = Detector()
    net.load_state_dict(torch.load({weights!r}))
    return net.eval()
"""


class Detector(nn.Module):
    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, 6, 3), nn.BatchNorm2d(6)
        )
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(images))


def detector(steps: int = 4, seed: int = 0) -> Detector:
    """Return a network after some steps of training; more steps go on from the same weights and data."""
    torch.manual_seed(seed)
    net = Detector()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(steps):
        loss = net(torch.randn(8, 3, 12, 12) * 2 + 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


def fine_tuned(*, freeze: str) -> Detector:
    """Return the network after further steps on other data, its backbone frozen ``well``, by ``gradient`` or not."""
    net = detector()
    net.backbone.requires_grad_(freeze == "no")
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.05)
    for _ in range(4):
        net.train()
        if freeze == "well":
            net.backbone.eval()
        optimizer.zero_grad()
        net(torch.randn(8, 3, 12, 12) * 3 + 2).square().mean().backward()
        optimizer.step()
    return net


def write_all(directory: Path) -> None:
    """Write every artifact that the tests name."""
    net = detector().eval()
    state = net.state_dict()
    torch.save(net, directory / "module.pt")
    torch.save(state, directory / "before.pt")
    torch.save({"model": state, "ema": detector(6).state_dict()}, directory / "checkpoint.ckpt")
    save_file(state, directory / "before.safetensors")
    torch.save(nn.DataParallel(net).state_dict(), directory / "wrapped.pt")
    torch.save(
        {f"student.{name.replace('backbone', 'trunk')}": value for name, value in state.items()},
        directory / "renamed.pt",
    )
    torch.save(dict(net.named_parameters()), directory / "parameters.pt")
    torch.save({name: value for name, value in state.items() if "tracked" not in name}, directory / "uncounted.pt")
    torch.save(detector(8).state_dict(), directory / "later.pt")
    for freeze in ("well", "gradient", "no"):
        torch.save(fine_tuned(freeze=freeze).state_dict(), directory / f"tuned_{freeze}.pt")
        torch.save(fine_tuned(freeze=freeze), directory / f"tuned_{freeze}_module.pt")
    swapped = dict(state)
    swapped["backbone.4.running_mean"], swapped["backbone.4.running_var"] = (
        state["backbone.4.running_var"],
        state["backbone.4.running_mean"],
    )
    torch.save(swapped, directory / "swapped.pt")
    half = {name: value.half() if "running" in name else value for name, value in state.items()}
    torch.save(half, directory / "half.pt")
    torch.save(Detector(channels=9).state_dict(), directory / "wider.pt")
    torch.save(nn.Linear(3, 3).state_dict(), directory / "unrelated.pt")
    torch.save({"epoch": 3}, directory / "no_model.pt")
    (directory / "broken.pt").write_bytes((directory / "before.pt").read_bytes()[:700])
    _write_shards(state, directory / "shards")
    _write_graphs(directory)
    tests = str(Path(__file__).parent)
    (directory / "detector_factory.py").write_text(FACTORY.format(tests=tests, weights=str(directory / "before.pt")))


def _write_shards(state: dict[str, torch.Tensor], directory: Path) -> None:
    directory.mkdir()
    names = list(state)
    parts = {"a.safetensors": names[:9], "b.safetensors": names[9:]}
    for file, held in parts.items():
        save_file({name: state[name].contiguous() for name in held}, directory / file)
    index = {name: file for file, held in parts.items() for name in held}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def _write_graphs(directory: Path) -> None:
    stale = detector()
    stale.backbone[1].running_var *= 1.5
    eps = detector()
    for module in eps.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-2
    image = (torch.randn(1, 3, 12, 12),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, net in (("folded", detector()), ("stale", stale), ("eps", eps)):
            torch.onnx.export(net.eval(), image, directory / f"{name}.onnx", dynamo=False)
        unfolded = {"do_constant_folding": False, "training": torch.onnx.TrainingMode.PRESERVE}
        torch.onnx.export(detector().eval(), image, directory / "unfolded.onnx", dynamo=False, **unfolded)
        torch.jit.script(detector().eval()).save(directory / "scripted.pt")
