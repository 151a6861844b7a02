"""Copies of module trees, against ``copy.deepcopy``."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from zoo.catalogue import ZOO, Mode, network

from bn_audit.runners._torch.duplicating import duplicate

COPYABLE = [name for name, architecture in ZOO.items() if architecture.pickles]


def described(module: nn.Module) -> list[object]:
    """Return everything that a copy must have in common with its original."""
    found: list[object] = []
    for path, child in module.named_modules(remove_duplicate=False):
        attributes = {name: value for name, value in vars(child).items() if not isinstance(value, dict)}
        found.append((path, type(child).__qualname__, child.training, sorted(vars(child)), list(child._modules)))
        found.append(
            [(name, repr(value)) for name, value in attributes.items() if isinstance(value, int | str | tuple)]
        )
        tensors = (*child.named_parameters(recurse=False), *child.named_buffers(recurse=False))
        found.append([(name, type(tensor), tensor.requires_grad, tensor.tolist()) for name, tensor in tensors])
    return found


@pytest.mark.parametrize("name", COPYABLE)
def test_copies_are_those_of_deepcopy(name: str) -> None:
    model = network(name, Mode.MIXED)
    if any(tensor.is_meta or nn.parameter.is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        pytest.skip("no values to compare")
    copied = duplicate(model, {})
    assert described(copied) == described(copy.deepcopy(model))
    own = {id(item) for item in (*model.modules(), *model.parameters(), *model.buffers())}
    assert own.isdisjoint(id(item) for item in (*copied.modules(), *copied.parameters(), *copied.buffers()))


class Shares(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        cache: dict[str, int] = {}
        self.first, self.second = nn.ReLU(), nn.ReLU()
        self.first.cache = self.second.cache = cache
        self.again = self.first
        base = torch.zeros(4)
        self.register_buffer("whole", base)
        self.register_buffer("part", base[:2])
        self.weight = nn.Parameter(torch.ones(2))
        self.tied = self.weight
        self.hooked = nn.Linear(2, 2)
        self.hooked.register_forward_hook(self.count)
        self.calls = 0

    def count(self, *_: object) -> None:
        self.calls += 1

    def forward(self, x: Tensor) -> Tensor:
        return self.hooked(x)


def test_what_is_shared_stays_shared_within_the_copy() -> None:
    model = Shares()
    copied = duplicate(model, {})
    assert copied.first.cache is copied.second.cache
    assert copied.first.cache is not model.first.cache
    assert copied.again is copied.first
    assert copied.tied is copied.weight
    copied.part.fill_(1)
    assert copied.whole.tolist() == [1, 1, 0, 0]
    assert model.whole.tolist() == [0, 0, 0, 0]
    copied(torch.ones(1, 2))
    assert (copied.calls, model.calls) == (1, 0)


def test_what_stands_in_is_taken() -> None:
    model = nn.Linear(2, 2)
    copied = duplicate(model, {id(model.weight): model.weight})
    assert copied.weight is model.weight
    assert copied.bias is not model.bias


class Special(nn.Module):
    def __deepcopy__(self, memo: object) -> nn.Module:
        return nn.Identity()


class Restored(nn.Module):
    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.restored = True


def test_classes_with_ways_of_their_own_are_copied_in_these() -> None:
    copied = duplicate(nn.Sequential(Special(), Restored()), {})
    assert type(copied[0]) is nn.Identity
    assert copied[1].restored
