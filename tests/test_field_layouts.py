"""What real code bases save, each as a healthy twin and as a mistaken one.

The healthy twin passes with nothing but notes; the mistaken one gives exactly the codes and layers stated.
"""

from __future__ import annotations

import argparse
import copy
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import bn_audit
from bn_audit import Options, Report, Severity

LAYERS = ["bn1", "layer.0.bn", "layer.1.bn"]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, bias=False)
        self.bn = nn.BatchNorm2d(4)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer = nn.Sequential(Block(), Block())
        self.fc = nn.Linear(4, 2)


def trained(module: nn.Module, *, training: bool, seed: int = 0) -> nn.Module:
    """Return the module with statistics, weights and counters as training leaves them."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            tensor.fill_(100)
        elif name.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        else:
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return module.train(training)


def net(training: bool, seed: int = 0) -> nn.Module:
    return trained(Net(), training=training, seed=seed)


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def parameters(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in model.named_parameters()}


def audit(tmp_path: Path, content: Any) -> Report:
    path = tmp_path / "checkpoint.pt"
    torch.save(content, path)
    return bn_audit.check(path)


def found(report: Report) -> list[tuple[str, str, list[str]]]:
    """Return (code, route, paths) of everything but notes."""
    return [
        (finding.code, finding.locations[0].model, [location.path for location in finding.locations])
        for finding in report.findings
        if finding.severity is not Severity.NOTE
    ]


def with_helper(model: nn.Module) -> nn.Module:
    """The model with an EMA helper, no module, that holds a copy (as trainers of segmentation networks keep it)."""
    model.helper = argparse.Namespace(decay=0.9, ema=copy.deepcopy(model))
    return model


MODULES: dict[str, tuple[Callable[[nn.Module], Any], str, str]] = {
    "plain": (lambda model: model, "", ""),
    "ultralytics, stripped": (
        lambda model: {"model": model.half(), "ema": None, "optimizer": None, "train_args": {"optimizer": "auto"}},
        "model",
        "",
    ),
    "ultralytics, while training": (
        lambda model: {
            "epoch": 3,
            "model": copy.deepcopy(model).half(),
            "ema": copy.deepcopy(model).eval().half(),
            "updates": 11,
            "optimizer": optimizer(model).state_dict(),
        },
        "model",
        "",
    ),
    "generator and discriminator": (lambda model: {"netG": net(False, 1), "netD": model}, "netD", ""),
    "tuple with optimizer": (lambda model: (model, optimizer(model), 3), "0", ""),
    "data parallel": (lambda model: nn.DataParallel(model).train(model.training), "", "module."),
    "averaged": (lambda model: torch.optim.swa_utils.AveragedModel(model).train(model.training), "", "module."),
    "compiled": (torch.compile, "", "_orig_mod."),
    "below a key called like an optimizer": (lambda model: {"model_opt": model}, "model_opt", ""),
    "hyper-parameters of lightning": (
        lambda model: {"state_dict": model.state_dict(), "hyper_parameters": {"lr": 0.1, "net": model}},
        "hyper_parameters.net",
        "",
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # importing what torch.compile needs
@pytest.mark.parametrize("layout", MODULES)
def test_pickled_modules(layout: str, tmp_path: Path) -> None:
    build, route, prefix = MODULES[layout]
    assert found(audit(tmp_path, build(net(False)))) == []
    layers = [prefix + path for path in LAYERS]
    assert found(audit(tmp_path, build(net(True)))) == [("BN101", route, layers)]


def test_an_average_inside_a_helper_object(tmp_path: Path) -> None:
    assert found(audit(tmp_path, with_helper(net(False)))) == []
    assert found(audit(tmp_path, with_helper(net(True)))) == [
        ("BN101", "", LAYERS),
        ("BN101", "helper.ema", LAYERS),
    ]


WHOLE: dict[str, Callable[[nn.Module], Any]] = {
    "plain": lambda model: model.state_dict(),
    "OpenMMLab": lambda model: {
        "meta": {"epoch": 1, "CLASSES": ("a",)},
        "state_dict": OrderedDict(model.state_dict()),
        "optimizer": optimizer(model).state_dict(),
    },
    "timm": lambda model: {
        "epoch": 2,
        "arch": "resnet18",
        "state_dict": model.state_dict(),
        "state_dict_ema": net(False, 1).state_dict(),
        "args": argparse.Namespace(lr=0.1),
    },
    "examples of torch": lambda model: {
        "state_dict": nn.DataParallel(model).state_dict(),
        "best_acc1": torch.tensor(3.0),
    },
    "lightning": lambda model: {
        "state_dict": {f"net.{name}": value for name, value in model.state_dict().items()},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.1)}},
        "optimizer_states": [optimizer(model).state_dict()],
    },
    "EMA of the parameters": lambda model: {
        "state_dict": model.state_dict(),
        "ema": {"shadow": parameters(net(False, 1))},
    },
    "parameters apart from buffers": lambda model: {
        "params": parameters(model),
        "buffers": dict(model.named_buffers()),
    },
    "importance of the parameters (EWC)": lambda model: {"model": model.state_dict(), "fisher": parameters(model)},
    "moments by name": lambda model: {"model": model.state_dict(), "optimizer": {"exp_avg": parameters(model)}},
    "rl_games": lambda model: {
        0: {
            "model": {
                **model.state_dict(),
                "running_mean_std.running_mean": torch.zeros(3),
                "running_mean_std.running_var": torch.ones(3),
                "running_mean_std.count": torch.ones(()),
            }
        }
    },
    "group norms under the names of batch norms": lambda model: trained(
        nn.ModuleDict({"conv1": nn.Conv2d(3, 4, 3), "bn1": nn.GroupNorm(2, 4)}), training=False
    ).state_dict(),
    "stacked ensemble": lambda model: {name: torch.stack([value, value]) for name, value in model.state_dict().items()},
    "low-rank adapter": lambda model: {"q.lora_A.weight": torch.randn(4, 8), "q.lora_B.weight": torch.randn(8, 4)},
}


@pytest.mark.parametrize("layout", WHOLE)
def test_state_dicts(layout: str, tmp_path: Path) -> None:
    report = audit(tmp_path, WHOLE[layout](net(True)))
    assert found(report) == []
    assert report.failed == ()


@pytest.mark.parametrize("layout", ["plain", "OpenMMLab", "timm", "examples of torch", "lightning"])
def test_state_dicts_whose_statistics_are_broken(layout: str, tmp_path: Path) -> None:
    model = net(False)
    model.layer[0].bn.running_var[1] = float("nan")  # type: ignore[index, union-attr, operator]
    ((code, _route, paths),) = found(audit(tmp_path, WHOLE[layout](model)))
    assert (code, [path.removeprefix("module.").removeprefix("net.") for path in paths]) == ("BN205", ["layer.0.bn"])


def test_a_model_without_what_its_own_average_has(tmp_path: Path) -> None:
    content = {"model": parameters(net(False)), "ema": net(False, 1).state_dict()}
    assert found(audit(tmp_path, content)) == [("BN201", "model", LAYERS)]


def test_detectron2_model_zoo(tmp_path: Path) -> None:
    weights = {name: value.numpy() for name, value in net(False).state_dict().items() if "tracked" not in name}
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"model": weights, "__author__": "torchvision", "matching_heuristics": True}))
    report = bn_audit.check(path)
    assert [norm.path for norm in report.norms] == LAYERS
    assert found(report) == []


def test_a_folder_of_transformers_trainer(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = net(True)
    save_file(dict(model.state_dict()), tmp_path / "model.safetensors")
    torch.save(optimizer(model).state_dict(), tmp_path / "optimizer.pt")
    torch.save({"last_epoch": 1, "_last_lr": [0.1]}, tmp_path / "scheduler.pt")
    torch.save({"cpu": torch.get_rng_state(), "python": (3, (1, 2), None)}, tmp_path / "rng_state.pth")
    torch.save(argparse.Namespace(lr=0.1, optim="adamw"), tmp_path / "training_args.bin")
    audited = bn_audit.run([str(tmp_path)], Options())
    assert audited.exit_code == 0
    assert [report.format for report in audited.reports] == ["safetensors"]
    listed = {Path(name).name: reason for name, reason in audited.listed}
    assert sorted(listed) == ["optimizer.pt", "rng_state.pth", "scheduler.pt", "training_args.bin"]
    assert "optimizer state" in listed["optimizer.pt"]
    assert "optimizer state" not in listed["training_args.bin"]
