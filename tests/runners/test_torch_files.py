"""Modules from files and factories: the file's module at the file's route, with the weights that were asked for."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from runners.torch_networks import convnet, images
from safetensors.torch import save_file
from torch import nn

from bn_audit.errors import FactoryError, RunError, UnsupportedRunError
from bn_audit.runners.torch_module import RUNNER
from bn_audit.running import Session
from bn_audit.subject.run import Array, Job


def answer(session: Session) -> Array:
    return session.run({"input": images()}).outputs[0]["output"]


def expected(model: nn.Module) -> Array:
    with torch.no_grad():
        return model(torch.from_numpy(images())).numpy()


def job_of(path: Path, route: str = "") -> Job:
    return Job(source=str(path), format="torch-checkpoint", route=route, trust=True)


def write_torch(model: object, path: Path) -> None:
    torch.save(model, path)


def write_legacy(model: object, path: Path) -> None:
    torch.save(model, path, _use_new_zipfile_serialization=False)


def write_pickle(model: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(model))


@pytest.mark.parametrize("write", [write_torch, write_legacy, write_pickle])
def test_every_way_of_writing_a_module(tmp_path: Path, write: object) -> None:
    write(convnet(), tmp_path / "model.pt")  # type: ignore[operator]
    with RUNNER.open(job_of(tmp_path / "model.pt")) as session:
        np.testing.assert_array_equal(answer(session), expected(convnet()))
        assert session.runner == RUNNER.name
        assert session.environment["torch"] == torch.__version__


@pytest.mark.parametrize(("route", "seed"), [("ema", 1), ("state.models.0", 2)])
def test_a_module_inside_a_checkpoint(tmp_path: Path, route: str, seed: int) -> None:
    content = {"epoch": 3, "ema": convnet(1), "state": {"models": [convnet(2)]}, "weights": convnet(3).state_dict()}
    torch.save(content, tmp_path / "checkpoint.pt")
    with RUNNER.open(job_of(tmp_path / "checkpoint.pt", route)) as session:
        np.testing.assert_array_equal(answer(session), expected(convnet(seed)))


def test_what_cannot_be_run_is_said(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    torch.save({"ema": convnet()}, path)
    with (
        pytest.raises(RunError, match=r"no module at 'model', there is one at 'ema'"),
        RUNNER.open(job_of(path, "model")),
    ):
        pass
    with pytest.raises(RunError, match="pass --trust"), RUNNER.open(replace(job_of(path, "ema"), trust=False)):
        pass
    torch.save(convnet().state_dict(), path)
    with pytest.raises(UnsupportedRunError, match="holds no module, only tensors"), RUNNER.open(job_of(path)):
        pass
    path.write_bytes(b"nothing that torch reads")
    with pytest.raises(RunError, match="cannot be loaded: UnpicklingError"), RUNNER.open(job_of(path)):
        pass


def test_a_missing_class_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"cgone_shop.vision\nClassifier\n.")
    with pytest.raises(RunError, match="ModuleNotFoundError: No module named 'gone_shop'"), RUNNER.open(job_of(path)):
        pass


def test_a_class_of_the_script_that_saved_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"c__main__\nClassifier\n.")
    with pytest.raises(RunError, match="Classifier was defined in the script that saved it"), RUNNER.open(job_of(path)):
        pass


def test_an_untrusted_file_runs_nothing(tmp_path: Path) -> None:
    path, proof = tmp_path / "model.pt", tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(proof),)  # type: ignore[return-value]

    path.write_bytes(b"cpathlib\nPath.touch\n(cpathlib\nPath\n(S'" + str(proof).encode() + b"'\ntRtR.")
    with pytest.raises(RunError, match="pass --trust"), RUNNER.open(replace(job_of(path), trust=False)):
        pass
    assert not proof.exists()
    with pytest.raises(RunError), RUNNER.open(job_of(path)):
        pass


FACTORY = """
import torch
from runners.torch_networks import convnet

def make():
    return convnet(1)

def broken():
    raise ValueError("no")
"""


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "shop_factories.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "shop_factories", raising=False)
    return "shop_factories:make"


def test_a_factory(factory: str) -> None:
    with RUNNER.open(Job(source=factory, format="live-module")) as session:
        np.testing.assert_array_equal(answer(session), expected(convnet(1)))
    with (
        pytest.raises(FactoryError, match="ValueError: no"),
        RUNNER.open(Job(source="shop_factories:broken", format="live-module")),
    ):
        pass


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_factory_with_weights(factory: str, tmp_path: Path, prefix: str, suffix: str) -> None:
    weights = {f"{prefix}{name}": tensor for name, tensor in convnet(2).state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"epoch": 1, "state_dict": weights}, path)
    else:
        save_file(weights, path)
    with RUNNER.open(Job(source=factory, format="live-module", weights=str(path))) as session:
        np.testing.assert_array_equal(answer(session), expected(convnet(2)))
        assert session.remarks == ()


def test_weights_that_do_not_fit(factory: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    partial = convnet(2).state_dict()
    del partial["0.weight"]
    torch.save(partial, path)
    job = Job(source=factory, format="live-module", weights=str(path))
    with RUNNER.open(job) as session:
        assert session.remarks == (
            "1 of 16 tensors of the model are not in the weights and keep the factory's values: 0.weight",
        )
    torch.save({"other.weight": torch.ones(99)}, path)
    with pytest.raises(RunError, match="none of its 1 tensors fits the model"), RUNNER.open(job):
        pass


def test_weights_are_not_unpickled_without_trust(factory: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(convnet(2), path)
    job = Job(source=factory, format="live-module", weights=str(path))
    with pytest.raises(RunError, match="cannot be loaded"), RUNNER.open(job):
        pass
    with RUNNER.open(replace(job, trust=True)) as session:
        np.testing.assert_array_equal(answer(session), expected(convnet(2)))


def test_a_sharded_file_is_put_together(factory: str, tmp_path: Path) -> None:
    weights = convnet(2).state_dict()
    names = list(weights)
    files = {"a.safetensors": names[:7], "b.safetensors": names[7:]}
    for file, part in files.items():
        save_file({name: weights[name] for name in part}, tmp_path / file)
    index = {"metadata": {}, "weight_map": {name: file for file, part in files.items() for name in part}}
    (tmp_path / "model.safetensors.index.json").write_text(__import__("json").dumps(index))
    job = Job(source=factory, format="live-module", weights=str(tmp_path / "model.safetensors.index.json"))
    with RUNNER.open(job) as session:
        np.testing.assert_array_equal(answer(session), expected(convnet(2)))
