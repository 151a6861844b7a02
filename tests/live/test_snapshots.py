"""Which running statistics moved: against a comparison of every value by itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bn_audit.live import snapshots
from bn_audit.live.layers import layers_of

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.int64)


class Keeping(nn.Module):
    """Holds statistics of every type and shape, and other buffers."""

    def __init__(self) -> None:
        super().__init__()
        for dtype in DTYPES:
            for shape in ((), (3,), (2, 3), (0,)):
                name = f"running_{str(dtype).partition('.')[2]}_{len(shape)}_{sum(shape)}"
                self.register_buffer(name, torch.ones(shape, dtype=dtype))
        self.register_buffer("mask", torch.ones(3))
        self.register_buffer("running_none", None)
        self.moving_mean = torch.zeros(2)


def model() -> nn.ModuleDict:
    return nn.ModuleDict({"one": Keeping(), "two": nn.ModuleList([Keeping()]), "none": nn.Linear(2, 2)})


def moved(net: nn.Module, change: Callable[[], object]) -> list[str]:
    before = snapshots.take(layers_of(net).keepers)
    with torch.no_grad():
        change()
    return [f"{keeper.path}.{name}" for keeper, name in snapshots.moved(before)]


def test_nothing_moves_by_itself() -> None:
    assert moved(model(), lambda: None) == []


@pytest.mark.parametrize(
    "name", [name for name, value in Keeping().named_buffers() if "running" in name and value.numel()]
)
def test_each_buffer_is_found_by_its_path_when_one_element_changes(name: str) -> None:
    net = model()
    buffer: Tensor = getattr(net["two"][0], name)
    assert moved(net, lambda: buffer.reshape(-1)[-1:].add_(1)) == [f"two.0.{name}"]


def test_replaced_tensors_count_by_their_values() -> None:
    net = model()
    keeping = net["one"]
    assert moved(net, lambda: setattr(keeping, "running_float32_1_3", torch.ones(3))) == []
    assert moved(net, lambda: setattr(keeping, "running_float32_1_3", torch.zeros(3))) == ["one.running_float32_1_3"]
    assert moved(net, lambda: setattr(keeping, "running_float32_1_3", torch.zeros(4))) == ["one.running_float32_1_3"]
    assert moved(net, lambda: setattr(keeping, "running_float32_1_3", None)) == ["one.running_float32_1_3"]
    assert moved(net, lambda: setattr(keeping, "moving_mean", torch.ones(2))) == ["one.moving_mean"]
    assert moved(net, lambda: setattr(keeping, "running_none", torch.ones(2))) == ["one.running_none"]


def test_a_cast_that_keeps_the_values_is_no_move() -> None:
    net = nn.BatchNorm2d(3).eval()
    assert moved(net, net.double) == []


def test_other_buffers_are_none_of_its_business() -> None:
    net = model()
    assert moved(net, lambda: net["one"].mask.zero_()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.0])
def test_values_that_equal_nothing_stand_still(value: float) -> None:
    net = nn.BatchNorm1d(3)
    net.running_var.fill_(value)
    assert moved(net, lambda: None) == []
    assert moved(net, lambda: net.running_var.fill_(1.0)) == [".running_var"]


def test_statistics_without_values_are_left_alone() -> None:
    with torch.device("meta"):
        assert moved(nn.BatchNorm2d(3), lambda: None) == []
    assert moved(nn.LazyBatchNorm2d(), lambda: None) == []


def test_inference_tensors_have_no_version_and_are_compared_all_the_same() -> None:
    with torch.inference_mode():
        net = nn.BatchNorm2d(3)
        with pytest.raises(RuntimeError, match="version"):
            _ = net.running_mean._version
        assert moved(net, lambda: None) == []
        assert moved(net, lambda: net.running_mean.add_(1)) == [".running_mean"]


def test_paths_are_those_of_torch() -> None:
    shared = nn.BatchNorm2d(3)
    net = nn.ModuleDict({"a": nn.Sequential(shared, nn.ReLU()), "b": nn.Sequential(shared), "c": nn.Identity()})
    layers = layers_of(net)
    assert [(layers.paths[id(module)], module) for module in layers.modules] == list(net.named_modules())
    assert [(keeper.path, keeper.names) for keeper in layers.keepers] == [
        ("a.0", ("running_mean", "running_var", "num_batches_tracked"))
    ]
