"""Checkpoints: which models are found, where, and what is said about the rest."""

from __future__ import annotations

import json
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bn_audit.containers.source import Source
from bn_audit.containers.target import FileTarget
from bn_audit.errors import ArtifactError, MalformedFileError, MissingTargetError, NoModelError, UnsupportedFormatError
from bn_audit.formats.torch_checkpoint import FORMAT
from bn_audit.subject.norm import Mode
from bn_audit.subject.subject import Facts, Form, Subject


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)


class Traceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(3)

    def forward(self, x):  # type: ignore[no-untyped-def]  # torch.fx cannot pickle annotations that are strings
        return self.bn(x)


class Holder:
    """An object that is no module and holds one."""

    def __init__(self, model: nn.Module) -> None:
        self.epoch = 3
        self.model = model


class Slotted:
    __slots__ = ("model",)

    def __init__(self, model: nn.Module) -> None:
        self.model = model


def read(path: Path) -> Subject:
    with Source(path) as source:
        target = FileTarget(source)
        assert FORMAT.sniff(target)
        return FORMAT.read(target)


def saved(tmp_path: Path, value: Any) -> Subject:
    path = tmp_path / "model.pt"
    torch.save(value, path)
    return read(path)


def routes(subject: Subject) -> list[tuple[str, str]]:
    return [(model.route, model.form.value) for model in subject.models]


def test_a_module_at_the_top(tmp_path: Path) -> None:
    subject = saved(tmp_path, Net().eval())
    (model,) = subject.models
    assert (model.route, model.form, model.mode) == ("", Form.MODULE, Mode.EVAL)
    assert model.type_name == f"{__name__}.Net"
    assert [node.path for node in model.modules] == ["", "conv", "bn"]
    assert [ref.name for ref in model.tensors] == [
        "conv.weight",
        "conv.bias",
        "bn.weight",
        "bn.bias",
        "bn.running_mean",
        "bn.running_var",
        "bn.num_batches_tracked",
    ]
    assert subject.norms[0].preceding == "conv"
    assert Facts.GRADIENTS in subject.facts


@pytest.mark.parametrize(
    ("wrap", "route"),
    [
        (lambda net: {"epoch": 1, "model": net}, "model"),
        (lambda net: {"state": {"deep": [None, net]}}, "state.deep.1"),
        (lambda net: (1, net), "1"),
        (lambda net: Holder(net), "model"),
        (lambda net: Slotted(net), "model"),
        (lambda net: {3: net}, "3"),
        (lambda net: OrderedDict(a=net), "a"),
    ],
)
def test_a_module_is_found_wherever_it_lies(tmp_path: Path, wrap: Any, route: str) -> None:
    subject = saved(tmp_path, wrap(Net()))
    assert routes(subject) == [(route, "module")]
    assert [(norm.model, norm.path) for norm in subject.norms] == [(route, "bn")]


def test_several_models_of_one_file(tmp_path: Path) -> None:
    net = Net()
    optimizer = torch.optim.Adam(net.parameters())
    net.bn(torch.zeros(2, 4, 1, 1)).sum().backward()
    optimizer.step()
    content = {
        "model": net,
        "ema": Net().eval(),
        "optimizer": optimizer.state_dict(),
        "backbone": net.bn,
        "weights": net.state_dict(),
        "best_loss": torch.tensor(0.5),
    }
    subject = saved(tmp_path, content)
    assert routes(subject) == [("model", "module"), ("ema", "module"), ("weights", "state-dict")]
    assert [model.averaged for model in subject.models] == [False, True, False]
    assert subject.has_optimizer_state


def test_a_lightning_checkpoint(tmp_path: Path) -> None:
    net = Net()
    content = {
        "epoch": 3,
        "global_step": 10,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {f"model.{name}": value for name, value in net.state_dict().items()},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(1.0)}},
        "optimizer_states": [torch.optim.SGD(net.parameters(), lr=1.0, momentum=0.9).state_dict()],
        "lr_schedulers": [],
        "hyper_parameters": {"lr": 0.1},
    }
    subject = saved(tmp_path, content)
    assert routes(subject) == [("state_dict", "state-dict")]
    assert [norm.path for norm in subject.norms] == ["model.bn"]
    assert subject.norms[0].mode is Mode.UNKNOWN
    assert subject.has_optimizer_state


def test_two_state_dicts_side_by_side(tmp_path: Path) -> None:
    subject = saved(
        tmp_path, {"encoder": Net().state_dict(), "decoder": dict(Net().state_dict()), "mean": torch.zeros(3)}
    )
    assert routes(subject) == [("encoder", "state-dict"), ("decoder", "state-dict")]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(3), "a single tensor"),
        ({"epoch": 3, "lr": 0.1}, "epoch, lr"),
        (torch.optim.Adam([nn.Parameter(torch.zeros(1))]).state_dict(), "optimizer state"),
        ([], "list"),
        ({}, "nothing"),
    ],
)
def test_a_file_without_a_model_says_what_it_holds(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(NoModelError, match=f"no model found, it holds {message}"):
        saved(tmp_path, value)


@pytest.mark.parametrize("key", ["param_shapes", "ds_config"])
def test_a_shard_of_a_distributed_checkpoint_is_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(UnsupportedFormatError, match="DeepSpeed"):
        saved(tmp_path, {"module": Net().state_dict(), key: {}})


def test_layers_in_plain_containers_are_found_and_aliases_are_not(tmp_path: Path) -> None:
    net = Net()
    net.blocks = [nn.Sequential(nn.BatchNorm1d(2)), {"deep": nn.BatchNorm1d(3)}]  # type: ignore[assignment]
    net.taps = [net.bn]  # type: ignore[assignment]
    net.norm_layer = nn.BatchNorm2d  # type: ignore[assignment]
    subject = saved(tmp_path, net)
    assert {norm.path: norm.registered for norm in subject.norms} == {
        "bn": True,
        "blocks.0.0": False,
        "blocks.1.deep": False,
    }


def test_a_student_that_refers_to_its_teacher_in_a_list_hides_nothing(tmp_path: Path) -> None:
    teacher, student = Net(), Net()
    student.teacher = [teacher]  # type: ignore[assignment]
    subject = saved(tmp_path, {"student": student, "teacher": teacher})
    assert all(norm.registered for norm in subject.norms)
    assert len(subject.norms) == 2


def test_cycles_end(tmp_path: Path) -> None:
    net = Net()
    net.__dict__["parent"] = net
    content: dict[str, Any] = {"model": net}
    content["self"] = content
    subject = saved(tmp_path, content)
    assert routes(subject) == [("model", "module")]
    assert len(subject.norms) == 1


def test_a_graph_module(tmp_path: Path) -> None:
    subject = saved(tmp_path, torch.fx.symbolic_trace(Traceable().train()))
    assert subject.models[0].type_name == "torch.fx.graph_module.GraphModule"
    assert [(norm.path, norm.mode) for norm in subject.norms] == [("bn", Mode.TRAIN)]


def test_a_model_on_the_meta_device_has_no_values(tmp_path: Path) -> None:
    with torch.device("meta"):
        net = Net()
    subject = saved(tmp_path, net)
    assert Facts.VALUES not in subject.facts
    assert subject.norms[0].num_features == 4


def test_plain_pickle(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    net = Net()
    nn.init.normal_(net.bn.weight)
    path.write_bytes(pickle.dumps(net))
    (norm,) = read(path).norms
    assert norm.weight is not None
    assert norm.weight.load() == net.bn.weight.detach().numpy().tobytes()


def shards(tmp_path: Path) -> Path:
    state = Net().state_dict()
    first = {name: value for name, value in state.items() if name.startswith("conv")}
    second = {name: value for name, value in state.items() if name.startswith("bn")}
    torch.save(first, tmp_path / "pytorch_model-00001-of-00002.bin")
    torch.save(second, tmp_path / "pytorch_model-00002-of-00002.bin")
    weight_map = dict.fromkeys(first, "pytorch_model-00001-of-00002.bin")
    weight_map |= dict.fromkeys(second, "pytorch_model-00002-of-00002.bin")
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


def test_shards_make_one_model(tmp_path: Path) -> None:
    subject = read(shards(tmp_path))
    assert routes(subject) == [("", "state-dict")]
    (norm,) = subject.norms
    assert norm.preceding == "conv"
    assert list(norm.running_var.values()) == [1.0] * 4  # type: ignore[union-attr]


def test_a_missing_shard_is_an_error(tmp_path: Path) -> None:
    index = shards(tmp_path)
    (tmp_path / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(MissingTargetError, match=r"00002-of-00002\.bin"):
        read(index)


@pytest.mark.parametrize("name", ["../outside.bin", "/etc/passwd"])
def test_an_index_does_not_lead_out_of_its_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "inner").mkdir()
    torch.save(Net().state_dict(), tmp_path / "outside.bin")
    index = tmp_path / "inner" / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"bn.weight": name}}))
    with pytest.raises(MalformedFileError, match="outside its own directory"):
        read(index)


@pytest.mark.parametrize("weight_map", [[], {}, {"a": 1}, {"bn.weight": "absent"}, "x", 3])
def test_a_broken_index_is_one_clear_error(tmp_path: Path, weight_map: Any) -> None:
    path = tmp_path / "pytorch_model.bin.index.json"
    path.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ArtifactError):
        read(path)


def test_a_tensor_that_its_shard_lacks_is_an_error(tmp_path: Path) -> None:
    index = shards(tmp_path)
    content = json.loads(index.read_text())
    content["weight_map"]["absent"] = "pytorch_model-00001-of-00002.bin"
    index.write_text(json.dumps(content))
    with pytest.raises(MalformedFileError, match="'absent'"):
        read(index)
