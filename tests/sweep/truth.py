"""Whether a fault shows at all, computed in float64 with torch alone: the audit takes no part in it."""

from __future__ import annotations

import copy

import torch
from mutants import BATCH
from networks import Clean
from torch import Tensor, nn

LIVE = {"content": 1e-9, "position": 1e-7, "size": 1e-7}
"""Relative effect in float64 from which a fault is live; rounding stays below 2e-12. A position or another size runs
other kernels, so that in float32 an effect below its spacing is nothing that could be seen."""

DRAWS = ((21, 1.0), (22, 1.0), (23, 10.0), (24, 0.1))


def effect(model: nn.Module, network: Clean, truth: str) -> float:
    """Return the largest relative effect of what `truth` names on an output row."""
    if truth == "content":
        return max(_swapped(model, network, index) for index in (0, BATCH - 1, BATCH // 2))
    if truth == "position":
        rows = tuple(x[:1].expand_as(x).contiguous() for x in network.draw(BATCH))
        return max(_apart(y[:1].expand_as(y), y) for y in _run(model, rows))
    if truth == "size":
        batch = network.draw(BATCH)
        return max(
            _apart(whole[:count], part)
            for count in (1, 2, 4)
            for whole, part in zip(_run(model, batch), _run(model, tuple(x[:count] for x in batch)), strict=True)
        )
    return float(_is_live(model, network, truth))


def _is_live(model: nn.Module, network: Clean, truth: str) -> bool:
    """Return whether the faulty layer runs at all: the fast path of a transformer leaves its parts out."""
    batch = network.draw(BATCH)
    if truth in ("fixed", "alone"):
        try:
            _run(model, batch if truth == "fixed" else tuple(x[:1] for x in batch))
        except (RuntimeError, ValueError):
            return True
        return False
    if truth == "stateful":
        copied = copy.deepcopy(model)
        one, other = _answers(copied, batch, 0), _answers(copied, batch, 0)
    else:
        one, other = (_answers(copy.deepcopy(model), batch, seed) for seed in (0, 1))
    return any(not torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _swapped(model: nn.Module, network: Clean, index: int) -> float:
    base = network.draw(BATCH)
    reference = _run(model, base)
    largest = 0.0
    draws = [tuple(x.clone() for x in network.draw(BATCH, seed, scale)) for seed, scale in DRAWS]
    draws.append(tuple(x[index : index + 1].expand_as(x).clone() for x in base))  # ranks show among equals
    for batch in draws:
        for x, own in zip(batch, base, strict=True):
            x[index] = own[index]
        for one, other in zip(reference, _run(model, batch), strict=True):
            largest = max(largest, _apart(one[index : index + 1], other[index : index + 1]))
    return largest


def _run(model: nn.Module, batch: tuple[Tensor, ...]) -> list[Tensor]:
    return _answers(copy.deepcopy(model), batch, 0)


def _answers(model: nn.Module, batch: tuple[Tensor, ...], seed: int) -> list[Tensor]:
    torch.manual_seed(seed)
    with torch.no_grad():
        result = model.double()(*(x.double() for x in batch))
    return [result] if isinstance(result, Tensor) else list(result)


def _apart(one: Tensor, other: Tensor) -> float:
    rows = one.shape[0]
    difference = torch.nan_to_num((one - other).abs().reshape(rows, -1), nan=float("inf"))
    size = one.abs().reshape(rows, -1).amax(1, keepdim=True).clamp(min=1e-30)
    return float((difference / size).max())
