"""Random module trees: any nesting, sharing, settings, dtypes and modes, with norm layers in plain containers too."""

from __future__ import annotations

import random

import torch
from torch import nn

from zoo import norms

_CHANNELS = (1, 2, 5)
_NAMES = ("a", "bn", "norm1", "running_mean_layer", "weight_", "layer-x", "ünïcode", "with space", "0", "module")


class Holder(nn.Module):
    """A module with children under given names and, where `hidden`, others in a plain list and dict."""

    def __init__(self, children: dict[str, nn.Module], hidden: list[nn.Module]) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)
        if hidden:
            self.extras = hidden[::2]
            self.by_key = {f"key{index}": module for index, module in enumerate(hidden[1::2])}
        self.note = {"lr": 0.1, "steps": [1, 2, 3], "name": "x"}


class Gate(nn.Module):
    """Parameters, no norm."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3))
        self.bias = nn.Parameter(torch.randn(3))
        self.register_buffer("mean", torch.randn(3), persistent=False)
        self.register_parameter("missing", None)


def model(seed: int) -> nn.Module:
    """Return the random network of this seed; the same seed gives the same network."""
    chance = random.Random(seed)
    torch.manual_seed(seed)
    pool: list[nn.Module] = []
    root = _branch(chance, pool, depth=0)
    for module in root.modules():
        module.training = chance.random() < 0.5
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad = chance.random() < 0.8
    return root


def _branch(chance: random.Random, pool: list[nn.Module], depth: int) -> nn.Module:
    children = [_child(chance, pool, depth) for _ in range(chance.randint(1, 4))]
    kind = chance.choice(["sequential", "list", "dict", "holder", "holder"])
    if kind == "sequential":
        branch: nn.Module = nn.Sequential(*children)
    elif kind == "list":
        branch = nn.ModuleList(children)
    else:
        named = dict(zip(chance.sample(_NAMES, len(children)), children, strict=True))
        hidden = [_norm(chance) for _ in range(chance.choice([0, 0, 1, 3]))]
        branch = nn.ModuleDict(named) if kind == "dict" else Holder(named, hidden)
    pool.append(branch)
    return branch


def _child(chance: random.Random, pool: list[nn.Module], depth: int) -> nn.Module:
    roll = chance.random()
    if depth < 4 and roll < 0.35:
        return _branch(chance, pool, depth + 1)
    if pool and roll < 0.45:
        return chance.choice(pool)
    if roll < 0.6:
        return chance.choice([nn.ReLU, nn.Identity, Gate, lambda: nn.LayerNorm(3), lambda: nn.Conv2d(1, 2, 1)])()
    norm = _norm(chance)
    pool.append(norm)
    return norm


def _norm(chance: random.Random) -> nn.Module:
    channels = chance.choice(_CHANNELS)
    eps = chance.choice([1e-5, 1e-3, 1e-12, 1])
    momentum = chance.choice([0.1, 0.01, None, 1, 0])
    settings = {"affine": chance.random() < 0.7, "track_running_stats": chance.random() < 0.7}
    cls = chance.choice(
        [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.InstanceNorm2d, "handmade", "frozen"]
    )
    if cls == "handmade":
        norm: nn.Module = norms.HandmadeNorm(channels, eps, 0.25)
    elif cls == "frozen":
        norm = norms.FrozenBatchNorm2d(channels, eps)
    else:
        norm = cls(channels, eps=eps, momentum=momentum, **settings)
    with torch.no_grad():
        for value in (*norm.parameters(), *norm.buffers()):
            value.copy_(torch.rand(value.shape) * 4 + 0.5)
    return norm.to(chance.choice([torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16]))
