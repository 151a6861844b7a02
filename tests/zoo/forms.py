"""The ways in which people save a network, each written by the framework itself."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.norms import vanished_library

PROTOCOLS = (2, 3, 4, 5)


@dataclass(frozen=True, kw_only=True)
class ModuleForm:
    """A way to save a module as a whole.

    Attributes:
        write: Writes the module to a path.
        routes: Key paths at which models are found in the file.
    """

    name: str
    write: Callable[[nn.Module, Path], None]
    routes: tuple[str, ...] = ("",)


@dataclass(frozen=True, kw_only=True)
class StateDictForm:
    """A way to save a state dict.

    Attributes:
        write: Writes the module's state to a path; returns the file to audit.
        suffix: Of that path.
        route: Where in the file the state dict lies.
        prefix: What stands before each key.
    """

    name: str
    write: Callable[[nn.Module, Path], Path]
    suffix: str = ".pt"
    routes: tuple[str, ...] = ("",)
    prefix: str = ""


class Trainer:
    """An object that is no module and holds one."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.epoch = 3
        self.history = [0.3, 0.2]


@contextmanager
def quietly():
    """Silence the frameworks: deprecations and notes about sources that cannot be found."""
    with warnings.catch_warnings(), vanished_library():
        warnings.simplefilter("ignore")
        yield


def _zip(protocol: int) -> Callable[[object, Path], None]:
    return lambda value, path: torch.save(value, path, pickle_protocol=protocol)


def _legacy(protocol: int) -> Callable[[object, Path], None]:
    return lambda value, path: torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=False)


def _pickled(protocol: int) -> Callable[[object, Path], None]:
    return lambda value, path: path.write_bytes(pickle.dumps(value, protocol))


def _optimizer(model: nn.Module) -> dict[str, object]:
    """Return the state of an optimizer after a step, as it lies beside the model in a training checkpoint."""
    parameters = [parameter for parameter in model.parameters() if not nn.parameter.is_lazy(parameter)]
    parameters = [nn.Parameter(torch.zeros_like(value, device="cpu", dtype=torch.float32)) for value in parameters]
    optimizer = torch.optim.Adam(parameters or [nn.Parameter(torch.zeros(1))])
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer.state_dict()


def _in_checkpoint(model: nn.Module, path: Path) -> None:
    torch.save({"epoch": 3, "args": {"lr": 0.1}, "model": model, "optimizer": _optimizer(model)}, path)


MODULE_FORMS = [
    *(ModuleForm(name=f"zip-{protocol}", write=_zip(protocol)) for protocol in PROTOCOLS),
    *(ModuleForm(name=f"legacy-{protocol}", write=_legacy(protocol)) for protocol in PROTOCOLS),
    *(ModuleForm(name=f"pickle-{protocol}", write=_pickled(protocol)) for protocol in PROTOCOLS),
    ModuleForm(name="checkpoint", write=_in_checkpoint, routes=("model",)),
    ModuleForm(name="attribute", write=lambda model, path: torch.save(Trainer(model), path), routes=("net",)),
    ModuleForm(name="list", write=lambda model, path: torch.save([{"a": 1}, model], path), routes=("1",)),
]


def _plain(save: Callable[[object, Path], None] = torch.save) -> Callable[[nn.Module, Path], Path]:
    def write(model: nn.Module, path: Path) -> Path:
        save(model.state_dict(), path)
        return path

    return write


def _under(key: str) -> Callable[[nn.Module, Path], Path]:
    def write(model: nn.Module, path: Path) -> Path:
        torch.save({"epoch": 7, key: model.state_dict(), "best": 0.9}, path)
        return path

    return write


def _prefixed(prefix: str) -> Callable[[nn.Module, Path], Path]:
    def write(model: nn.Module, path: Path) -> Path:
        torch.save({prefix + name: value for name, value in model.state_dict().items()}, path)
        return path

    return write


def _lightning(model: nn.Module, path: Path) -> Path:
    checkpoint = {
        "epoch": 4,
        "global_step": 100,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {f"model.{name}": value for name, value in model.state_dict().items()},
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"current": {"ready": 5}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_path": "x.ckpt", "best_k_models": {}}},
        "optimizer_states": [_optimizer(model)],
        "lr_schedulers": [{"step_size": 3, "_last_lr": [0.1]}],
        "hyper_parameters": {"lr": 0.1, "width": 4},
    }
    torch.save(checkpoint, path)
    return path


def _training(model: nn.Module, path: Path) -> Path:
    state = model.state_dict()
    torch.save({"model": state, "ema": copy.deepcopy(state), "optimizer": _optimizer(model), "step": 9}, path)
    return path


def _separate(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone().contiguous() for name, value in model.state_dict().items()}


def _safetensors(model: nn.Module, path: Path) -> Path:
    from safetensors.torch import save_file

    save_file(_separate(model), path, metadata={"format": "pt"})
    return path


def _halves(state: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    names = list(state)
    return [{name: state[name] for name in names[start::2]} for start in (0, 1)]


def _sharded(
    suffix: str, stem: str, save: Callable[[dict[str, Tensor], Path], None]
) -> Callable[[nn.Module, Path], Path]:
    def write(model: nn.Module, path: Path) -> Path:
        path.mkdir()
        weight_map = {}
        for number, half in enumerate(_halves(_separate(model)), start=1):
            shard = f"{stem}-{number:05}-of-00002{suffix}"
            save(half, path / shard)
            weight_map.update(dict.fromkeys(half, shard))
        index = path / f"{stem}{suffix}.index.json"
        index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
        return index

    return write


def _save_safetensors(tensors: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file(tensors, path, metadata={"format": "pt"})


STATE_DICT_FORMS = [
    StateDictForm(name="zip", write=_plain()),
    StateDictForm(name="legacy", write=_plain(_legacy(2))),
    StateDictForm(name="pickle", write=_plain(_pickled(4))),
    StateDictForm(name="state_dict", write=_under("state_dict"), routes=("state_dict",)),
    StateDictForm(name="model_state_dict", write=_under("model_state_dict"), routes=("model_state_dict",)),
    StateDictForm(name="data-parallel", write=_prefixed("module."), prefix="module."),
    StateDictForm(name="compiled", write=_prefixed("_orig_mod."), prefix="_orig_mod."),
    StateDictForm(name="lightning", write=_lightning, suffix=".ckpt", routes=("state_dict",), prefix="model."),
    StateDictForm(name="training", write=_training, routes=("model", "ema")),
    StateDictForm(name="safetensors", write=_safetensors, suffix=".safetensors"),
    StateDictForm(name="safetensors-sharded", write=_sharded(".safetensors", "model", _save_safetensors), suffix=""),
    StateDictForm(name="bin-sharded", write=_sharded(".bin", "pytorch_model", torch.save), suffix=""),
]


def script(model: nn.Module, path: Path) -> None:
    """Write the module as TorchScript compiled from its source."""
    torch.jit.script(model).save(str(path))


def trace(model: nn.Module, path: Path, inputs: tuple[Tensor, ...]) -> None:
    """Write the module as TorchScript recorded from one forward pass, which leaves the module as it was."""
    traced = torch.jit.trace(copy.deepcopy(model), inputs, check_trace=False)
    traced.load_state_dict(model.state_dict())
    traced.save(str(path))


def export(model: nn.Module, path: Path, inputs: tuple[Tensor, ...]) -> None:
    """Write the module as an exported program."""
    torch.export.save(torch.export.export(model, inputs), path)
