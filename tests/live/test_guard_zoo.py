"""The guard against what the networks of the zoo do, measured without it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from zoo.catalogue import ZOO, Mode, modes, network

import bn_audit
from bn_audit.live.guarding import Violation

RUNNABLE = sorted(name for name, architecture in ZOO.items() if architecture.sample)


def first(output: object) -> Tensor:
    while not isinstance(output, Tensor):
        output = next(iter(output.values())) if isinstance(output, dict) else output[0]  # type: ignore[index]
    return output


def ran(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, bool]:
    """Return the output of a fresh copy, and whether the pass moved a buffer of it."""
    fresh = copy.deepcopy(model)
    torch.manual_seed(0)
    with torch.no_grad():
        output = first(fresh(*inputs))
    before, after = dict(model.named_buffers()), dict(fresh.named_buffers())
    return output, any(not torch.equal(value, after[name]) for name, value in before.items())


def depends_or_moves(name: str, model: nn.Module) -> bool:
    """Return whether the first sample's output changes with its companions, or a buffer moves.

    The kernels are the same for equal shapes, so that a difference of one bit is a dependence.
    """
    torch.manual_seed(1)
    inputs = ZOO[name].inputs()
    others = tuple(torch.cat([value[:1], 3 * value[1:].flip(0)]) for value in inputs)
    (one, moves), (two, _) = ran(model, inputs), ran(model, others)
    axis = 1 if one.shape[0] != inputs[0].shape[0] else 0
    return moves or not torch.equal(one.select(axis, 0), two.select(axis, 0))


@pytest.mark.parametrize("name", RUNNABLE)
def test_guard_agrees_with_what_the_network_does(name: str) -> None:
    for mode in modes(name):
        model = network(name, mode)
        if name == "quantisation_aware":  # ranges of activations move in either mode, and are no norm layer's
            model.apply(torch.ao.quantization.disable_observer)
        found: list[Violation] = []
        torch.manual_seed(1)
        inputs = ZOO[name].inputs()
        guarded = copy.deepcopy(model)
        with torch.no_grad(), bn_audit.guard(guarded, on_violation=found.append):
            guarded(*inputs)
        assert bool(found) is depends_or_moves(name, model), (mode, [str(item) for item in found])
        if mode is Mode.EVAL:
            assert (not found) or ZOO[name].expected, [str(item) for item in found]
