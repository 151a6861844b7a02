"""Models in odd places of a checkpoint: below keys called like optimizers, in objects, in lists."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bn_audit import check
from bn_audit.containers.source import Source
from bn_audit.containers.target import FileTarget
from bn_audit.errors import UnsupportedFormatError
from bn_audit.formats.torch_checkpoint import FORMAT
from bn_audit.subject.subject import Subject


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)


class Helper:
    """An object that is no module and holds a copy of one."""

    def __init__(self, model: nn.Module) -> None:
        self.decay = 0.9
        self.ema = copy.deepcopy(model).eval()
        self.live = model
        self.losses = [nn.CrossEntropyLoss()]


class Helped(Net):
    def __init__(self) -> None:
        super().__init__()
        self.helper = Helper(nn.Sequential(self.bn, nn.BatchNorm2d(4)))


class Listed(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norms = [nn.BatchNorm2d(4), nn.BatchNorm2d(4)]
        self.by_name = {"a": nn.BatchNorm2d(4)}


def saved(tmp_path: Path, content: Any) -> Subject:
    path = tmp_path / "checkpoint.pt"
    torch.save(content, path)
    with Source(path) as source:
        return FORMAT.read(FileTarget(source))


def routes(subject: Subject) -> list[str]:
    return [model.route for model in subject.models]


def stepped() -> tuple[Net, torch.optim.Optimizer]:
    net = Net()
    optimizer = torch.optim.Adam(net.parameters())
    net.bn(torch.zeros(2, 4, 1, 1)).sum().backward()
    optimizer.step()
    return net, optimizer


@pytest.mark.parametrize("key", ["model_opt", "opt", "best_optim", "adam"])
@pytest.mark.parametrize("as_module", [True, False])
def test_a_model_below_a_key_called_like_an_optimizer_is_found(tmp_path: Path, key: str, as_module: bool) -> None:
    net = Net()
    subject = saved(tmp_path, {key: net if as_module else net.state_dict(), "other": Net().eval()})
    assert sorted(routes(subject)) == sorted([key, "other"])
    assert not subject.has_optimizer_state


def test_moments_under_the_names_of_parameters_are_no_model(tmp_path: Path) -> None:
    net, optimizer = stepped()
    by_name = {
        name: optimizer.state[parameter]["exp_avg"]
        for name, parameter in net.named_parameters()
        if parameter in optimizer.state
    }
    subject = saved(tmp_path, {"model": net, "optimizer": {"first": by_name}})
    assert routes(subject) == ["model"]
    assert subject.has_optimizer_state


@pytest.mark.parametrize("settings", ["auto", {"name": "SGD", "lr": 0.1, "betas": (0.9, 0.999)}, None, {}])
def test_the_settings_of_an_optimizer_are_no_optimizer_state(tmp_path: Path, settings: Any) -> None:
    """``train_args`` of ultralytics and ``hyper_parameters`` of Lightning name the optimizer for good."""
    subject = saved(tmp_path, {"model": Net(), "optimizer": None, "train_args": {"optimizer": settings, "epochs": 3}})
    assert not subject.has_optimizer_state


def test_a_copy_inside_a_helper_object_is_a_model_of_its_own(tmp_path: Path) -> None:
    subject = saved(tmp_path, Helped())
    assert [(norm.model, norm.path, norm.registered) for norm in subject.norms] == [
        ("", "bn", True),
        ("helper.ema", "0", True),
        ("helper.ema", "1", True),
        ("helper.live", "1", True),
    ]
    assert [model.averaged for model in subject.models] == [False, True, False]


def test_layers_in_plain_containers_come_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(Listed().eval(), path)
    for report in (check(path), check(Listed().eval())):
        assert [(norm.path, norm.registered) for norm in report.norms] == [
            ("bn", True),
            ("norms.0", False),
            ("norms.1", False),
            ("by_name.a", False),
        ]
        assert [finding.code for finding in report.findings] == ["BN101", "BN108"]


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_a_shard_on_its_own_lacks_what_the_others_hold(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model-00001-of-00002.{suffix}"
    half = {name: value for name, value in Net().state_dict().items() if "running" not in name}
    save_file(half, path) if suffix == "safetensors" else torch.save(half, path)
    report = check(path)
    assert report.findings == ()
    assert "shard 1 of 2" in report.unread[0]
    whole = path.rename(tmp_path / f"model-00001-of-00001.{suffix}")
    assert [finding.code for finding in check(whole).findings] == ["BN201"]


def test_the_weights_of_caffe2_are_named(tmp_path: Path) -> None:
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"blobs": {"conv1_w": np.zeros((2, 3)), "res_conv1_bn_s": np.zeros(3)}}))
    with pytest.raises(UnsupportedFormatError, match="Caffe2"):
        check(path)


def test_models_at_keys_of_odd_types_stay_apart(tmp_path: Path) -> None:
    path = tmp_path / "two.pt"
    torch.save({("a", 1): Net().eval(), ("b", 2): Net()}, path)
    report = check(path)
    assert [model.route for model in report.models] == ["?", "?#2"]
    assert [(finding.code, finding.locations[0].model) for finding in report.findings] == [("BN101", "?#2")]
    torch.save({"a.b": Net().eval(), "a": {"b": Net().state_dict()}}, path)
    assert [model.route for model in check(path).models] == ["a.b", "a.b#2"]
