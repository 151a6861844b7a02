"""Patterns of frozen layers."""

from __future__ import annotations

import pytest
from torch import nn

from bn_audit.alignment.claims import match_frozen
from bn_audit.containers.target import ModuleTarget
from bn_audit.errors import UsageError
from bn_audit.formats.live_module import FORMAT
from bn_audit.subject.subject import Subject


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.vfe = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.backbone_2d = nn.Module()
        self.backbone_2d.blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))] * 1)
        self.backbone_2d.deblocks = nn.ModuleList([nn.BatchNorm2d(1)])
        self.head = nn.Linear(2, 2)


def subject(module: nn.Module | None = None) -> Subject:
    return FORMAT.read(ModuleTarget(module=module or Detector()))


def matched(pattern: str, module: nn.Module | None = None) -> list[str]:
    (item,) = match_frozen(subject(module), [pattern])
    return [layer.path for layer in item.layers]


@pytest.mark.parametrize(
    ("pattern", "layers"),
    [
        ("vfe", ["vfe.1"]),
        ("vfe.*", ["vfe.1"]),
        ("vfe.1", ["vfe.1"]),
        ("backbone_2d.blocks.*", ["backbone_2d.blocks.0.1"]),
        ("backbone_2d", ["backbone_2d.blocks.0.1", "backbone_2d.deblocks.0"]),
        ("*blocks*", ["backbone_2d.blocks.0.1", "backbone_2d.deblocks.0"]),
        ("*", ["vfe.1", "backbone_2d.blocks.0.1", "backbone_2d.deblocks.0"]),
        ("backbone_[12]d.d*", ["backbone_2d.deblocks.0"]),
        ("backbone", []),
        ("VFE", []),
        ("head", []),
    ],
)
def test_a_pattern_matches_paths_and_everything_below(pattern: str, layers: list[str]) -> None:
    assert matched(pattern) == layers


def test_tensors_outside_norm_layers_are_claimed_too() -> None:
    (item,) = match_frozen(subject(), ["head"])
    assert (item.layers, item.tensors) == ((), ("head.weight", "head.bias"))
    (item,) = match_frozen(subject(), ["vfe"])
    state = [name for name in Detector().state_dict() if name.startswith("vfe.")]
    assert sorted(item.tensors) == sorted(state)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda net: nn.DataParallel(nn.DataParallel(net))])
def test_a_pattern_need_not_name_the_wrappers(wrap) -> None:
    wrapped = wrap(Detector())
    assert matched("vfe", wrapped) == [path for path, _ in wrapped.named_modules() if path.endswith("vfe.1")]


def test_each_pattern_is_answered_in_order() -> None:
    items = match_frozen(subject(), ["head", "nothing.*", "vfe"])
    assert [(item.pattern, bool(item.layers), bool(item.tensors)) for item in items] == [
        ("head", False, True),
        ("nothing.*", False, False),
        ("vfe", True, True),
    ]


@pytest.mark.parametrize("pattern", ["", ".", ".."])
def test_an_empty_pattern_is_a_usage_error(pattern: str) -> None:
    with pytest.raises(UsageError, match="--frozen"):
        match_frozen(subject(), [pattern])


def test_a_layer_is_found_by_its_other_name() -> None:
    net = Detector()
    net.shared = net.vfe[1]
    assert matched("shared", net) == ["vfe.1"]
