"""Faults planted in clean networks: batch norms in the wrong mode, and layers that mix, move, count or draw."""

from __future__ import annotations

import copy
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from networks import Clean
from torch import Tensor, nn

BATCH = 5
NORM = nn.modules.batchnorm._BatchNorm


class Faulty(nn.Module):
    """A layer with a fault behind it."""

    def __init__(self, inner: nn.Module, fault: nn.Module) -> None:
        super().__init__()
        self.inner, self.fault = inner, fault

    def __getattr__(self, name: str) -> object:
        # A transformer looks at the settings of its layers.
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.fault(self.inner(*inputs))


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Counting(nn.Module):
    """Scales by the number of calls, kept where no state dict shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * (1 + 0.01 * self.calls)


class FunctionalNorm(nn.Module):
    """A batch norm called with ``training=True`` by hand."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, self.norm.weight, self.norm.bias, True, 0.1, self.norm.eps)


class MovingNorm(nn.Module):
    """Statistics that move at every call, and are used as they are then."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        self.norm.training = True
        self.norm(x)
        self.norm.training = False
        return self.norm(x)


def _per_sample(value: Tensor, like: Tensor) -> Tensor:
    return value.view(-1, *[1] * (like.ndim - 1))


def _capacity(x: Tensor) -> Tensor:
    count = x.shape[0]
    places = max(1, math.ceil(0.6 * count))
    chosen = x.flatten(1).norm(dim=1).topk(places).indices
    return x * _per_sample(torch.zeros(count, dtype=x.dtype, device=x.device).index_fill(0, chosen, 1.0), x)


def _position(x: Tensor) -> Tensor:
    wave = torch.sin(torch.arange(x.shape[0], dtype=x.dtype, device=x.device) * 0.7)
    return x + 0.1 * _per_sample(wave, x) * x.abs().mean(tuple(range(1, x.ndim)), keepdim=True)


def _quantised(x: Tensor) -> Tensor:
    scale = x.abs().amax() / 127
    return (x / scale).round() * scale


def _alone_fails(x: Tensor) -> Tensor:
    if x.shape[0] == 1:
        raise ValueError("Expected more than 1 value per channel")
    return x


FAULTS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "softmax over the batch": ("content", lambda: Function(lambda x: x.softmax(0) * x.shape[0])),
    "mean over the batch": ("content", lambda: Function(lambda x: x - x.mean(0, keepdim=True))),
    "detached mean": ("content", lambda: Function(lambda x: x - x.detach().mean(0, keepdim=True))),
    "standardised over the batch": (
        "content",
        lambda: Function(lambda x: (x - x.mean(0)) / (x.std(0, unbiased=False) + 1e-5)),
    ),
    "sorted in the batch": ("content", lambda: Function(lambda x: x.sort(0).values)),
    "flipped rows added": ("content", lambda: Function(lambda x: x + 0.1 * x.flip(0))),
    "rows before added": ("content", lambda: Function(lambda x: x + 0.1 * (x.cumsum(0) - x))),
    "wrong reshape": ("content", lambda: Function(lambda x: x.reshape(x.shape[0], -1).t().reshape(x.shape))),
    "scaled by the batch's maximum": ("content", lambda: Function(lambda x: x / x.abs().amax() * 3)),
    "one range for the batch": ("content", lambda: Function(_quantised)),
    "capacity": ("content", lambda: Function(_capacity)),
    "leak 1e-3": ("content", lambda: Function(lambda x: x + 1e-3 * x.mean(0, keepdim=True))),
    "leak 1e-5": ("content", lambda: Function(lambda x: x + 1e-5 * x.mean(0, keepdim=True))),
    "leak 1e-6": ("content", lambda: Function(lambda x: x + 1e-6 * x.mean(0, keepdim=True))),
    "scaled by the batch size": ("size", lambda: Function(lambda x: x * (1 + 0.05 * x.shape[0]))),
    "row number added": ("position", lambda: Function(_position)),
    "dropout left on": ("rng", lambda: Function(lambda x: F.dropout(x, 0.1, True))),
    "counts its calls": ("stateful", Counting),
    "batch in a view": ("fixed", lambda: Function(lambda x: x.reshape(8, *x.shape[1:]))),
    "fails alone": ("alone", lambda: Function(_alone_fails)),
}
"""What the fault is, by name: its class, and the layer that makes it."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A network with one fault.

    Attributes:
        truth: ``content``, ``position``, ``size``, ``rng``, ``stateful``, ``fixed`` or ``alone``.
        path: Module path of the faulty layer.
    """

    fault: str
    truth: str
    path: str
    model: nn.Module


def mutants(network: Clean) -> Iterator[Mutant]:
    """Yield the network with every fault that can be planted in it."""
    base = network.build()
    executed = _executed(base, network)
    norms = [path for path in executed if isinstance(base.get_submodule(path), NORM)]
    norms = [path for path in norms if executed.count(path) == 1]
    if norms:
        yield from _in_wrong_mode(base, norms)
    sites = _sites(base, network)
    if sites:
        for fault, (truth, build) in FAULTS.items():
            share = (0.1, 0.35, 0.6, 0.85)[zlib.crc32(f"{network.name} {fault}".encode()) % 4]
            path = sites[min(len(sites) - 1, int(len(sites) * share))]
            model = copy.deepcopy(base)
            _put(model, path, Faulty(model.get_submodule(path), build()).eval())
            yield Mutant(fault=fault, truth=truth, path=path, model=model)


def _in_wrong_mode(base: nn.Module, norms: list[str]) -> Iterator[Mutant]:
    middle = norms[len(norms) // 2]
    for which, path in (("first", norms[0]), ("middle", middle), ("last", norms[-1])):
        model = copy.deepcopy(base)
        model.get_submodule(path).training = True
        yield Mutant(fault=f"{which} norm in train", truth="content", path=path, model=model)
    model = copy.deepcopy(base)
    for path in norms:
        model.get_submodule(path).training = True
    yield Mutant(fault="all norms in train", truth="content", path=norms[0], model=model)
    model = copy.deepcopy(base)
    norm = model.get_submodule(middle)
    norm.track_running_stats, norm.running_mean, norm.running_var, norm.num_batches_tracked = False, None, None, None
    yield Mutant(fault="no running statistics", truth="content", path=middle, model=model)
    for fault, build in (("functional batch norm", FunctionalNorm), ("statistics move", MovingNorm)):
        model = copy.deepcopy(base)
        _put(model, middle, build(model.get_submodule(middle)).eval())
        yield Mutant(fault=fault, truth="content", path=middle, model=model)


def _put(model: nn.Module, path: str, new: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, new)


def _executed(model: nn.Module, network: Clean) -> list[str]:
    return [path for path, _ in _calls(model, network, BATCH)]


def _sites(model: nn.Module, network: Clean) -> list[str]:
    """Return the leaves called once whose output has the samples on its first axis."""
    one, other = _calls(model, network, BATCH), _calls(model, network, BATCH + 3)
    counts = Counter(path for path, _ in one)
    return [
        path
        for (path, small), (_, large) in zip(one, other, strict=True)
        if counts[path] == 1 and (small[0], large[0]) == (BATCH, BATCH + 3) and small[1:] == large[1:]
    ]


def _calls(model: nn.Module, network: Clean, count: int) -> list[tuple[str, tuple[int, ...]]]:
    calls: list[tuple[str, tuple[int, ...]]] = []

    def note(path: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.is_floating_point() and output.ndim >= 2:
                calls.append((path, tuple(output.shape)))

        return hook

    model = copy.deepcopy(model)
    for path, module in model.named_modules():
        if path and not list(module.children()):
            module.register_forward_hook(note(path))
    with torch.no_grad():
        model(*network.draw(count, seed=3))
    return calls
