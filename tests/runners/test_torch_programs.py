"""TorchScript and exported programs: their inputs, answers, modes and places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from runners.torch_networks import colours, convnet, images, training, with_operation
from torch import Tensor, nn

from bn_audit.errors import RunError, UnsupportedRunError
from bn_audit.runners.exported_program import RUNNER as EXPORTED
from bn_audit.runners.torchscript import RUNNER as SCRIPT
from bn_audit.subject.run import Job

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def script_job(module: torch.nn.Module, path: Path) -> Job:
    torch.jit.save(module, path)
    return Job(source=str(path), format="torchscript", trust=True)


def export_job(module: nn.Module, path: Path, *arguments: object, shapes: object = None, **named: object) -> Job:
    torch.export.save(torch.export.export(module, arguments, named, dynamic_shapes=shapes), path)
    return Job(source=str(path), format="exported-program", trust=True)


def free_batch() -> object:
    return ({0: torch.export.Dim("batch")},)


def expected(model: nn.Module) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(images())).numpy()


SCRIPTS: dict[str, Callable[[nn.Module], torch.nn.Module]] = {
    "scripted": torch.jit.script,
    "traced": lambda model: torch.jit.trace(model, torch.from_numpy(images())),
    "frozen": lambda model: torch.jit.freeze(torch.jit.script(model)),
}


@pytest.mark.parametrize("form", SCRIPTS)
def test_torchscript_answers_as_the_module(form: str, tmp_path: Path) -> None:
    with SCRIPT.open(script_job(SCRIPTS[form](convnet()), tmp_path / "model.pt")) as session:
        (spec,) = next(session.input_candidates())
        assert spec.shape[:2] == (None, 3)
        run = session.run({spec.name: images()}, {spec.name: images()}, traced=True)
        for outputs in run.outputs:
            np.testing.assert_allclose(outputs["output"], expected(convnet()), rtol=1e-6, atol=1e-7)
        assert run.changed == ()
        assert run.trace is not None
        assert (session.in_mode(training=True) is None) is (form == "frozen")


class Stateful(nn.Module):
    """Counts its calls in an attribute of the program."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.norm(x) * self.calls


def test_what_torchscript_keeps_is_fresh_in_each_run(tmp_path: Path) -> None:
    batch = {"x": np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)}
    with SCRIPT.open(script_job(torch.jit.script(Stateful().eval()), tmp_path / "model.pt")) as session:
        first, second = session.run(batch, batch), session.run(batch)
        assert session.norm_paths == ("norm",)
        training_session = session.in_mode(training=True, paths=["norm"])
        assert training_session is not None
        moved = training_session.run(batch)
        still = session.run(batch)
    np.testing.assert_allclose(first.outputs[1]["output"], 2 * first.outputs[0]["output"])
    np.testing.assert_array_equal(first.outputs[0]["output"], second.outputs[0]["output"])
    assert moved.changed == ("norm.running_mean", "norm.running_var", "norm.num_batches_tracked")
    assert still.changed == ()


def test_moved_buffers_of_torchscript_are_put_back(tmp_path: Path) -> None:
    with SCRIPT.open(script_job(torch.jit.script(training(1)), tmp_path / "model.pt")) as session:
        runs = [session.run({"input": images()}) for _ in range(2)]
    assert [run.changed for run in runs] == [("1.running_mean", "1.running_var", "1.num_batches_tracked")] * 2


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 4)
        self.look = nn.Conv2d(2, 4, 3)

    def forward(self, picture: Tensor, tokens: Tensor, times: int = 2) -> tuple[Tensor, dict[str, Tensor]]:
        seen = self.look(picture).mean((2, 3)) * times
        return seen, {"words": self.words(tokens).sum(1)}


def test_inputs_and_outputs_of_torchscript(tmp_path: Path) -> None:
    with SCRIPT.open(script_job(torch.jit.script(TwoInputs()), tmp_path / "model.pt")) as session:
        picture, tokens = next(session.input_candidates())
        assert (picture.name, picture.shape, picture.dtype) == ("picture", (None, 2, 64, 64), "float32")
        assert (tokens.name, tokens.shape, tokens.dtype, tokens.highest) == ("tokens", (None, 16), "int64", 9)
        batch = {"picture": np.ones((3, 2, 64, 64), np.float32), "tokens": np.ones((3, 16), np.int64)}
        one, three = session.run(batch).outputs[0], session.run({**batch, "times": np.array(3)}).outputs[0]
    assert list(one) == ["0", "1.words"]
    np.testing.assert_allclose(three["0"], 1.5 * one["0"], rtol=1e-6)


def test_places_in_torchscript_are_the_owners_of_the_parameters(tmp_path: Path) -> None:
    with SCRIPT.open(script_job(torch.jit.script(training(4)), tmp_path / "model.pt")) as session:
        base, companions, probe = ({"input": array} for array in colours())
        found = session.localise(base, companions, probe, 0)
        calls = session.calls(base)
    assert found.first is not None and calls is not None
    assert (found.first.path, found.first.type_name) == ("4", "BatchNorm2d")
    assert found.first.op == "aten.native_batch_norm.default"
    assert [place.path for place in calls.batch_statistics] == ["4"]
    assert (calls.norm_calls, calls.registered, calls.unregistered) == (2, 2, ())


def test_errors_of_torchscript_are_one_line(tmp_path: Path) -> None:
    job = script_job(torch.jit.script(convnet()), tmp_path / "model.pt")
    with SCRIPT.open(job) as session, pytest.raises(RunError) as caught:
        session.run({"input": np.zeros((2, 4, 8, 8), np.float32)})
    assert str(caught.value).startswith("RuntimeError: Given groups=1")


@pytest.mark.parametrize("runner", [SCRIPT, EXPORTED])
def test_programs_need_trust_and_a_file_that_loads(runner: object, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"nothing")
    job = Job(source=str(path), format="", trust=True)
    with pytest.raises(RunError, match="cannot be loaded"), runner.open(job):  # type: ignore[attr-defined]
        pass
    with pytest.raises(RunError, match="pass --trust"), runner.open(replace(job, trust=False)):  # type: ignore[attr-defined]
        pass


def test_an_exported_program_states_its_inputs(tmp_path: Path) -> None:
    job = export_job(convnet(), tmp_path / "model.pt2", torch.from_numpy(images()), shapes=free_batch())
    with EXPORTED.open(job) as session:
        (spec,) = next(session.input_candidates())
        assert spec.shape[1:] == (3, 12, 12)
        assert (spec.batch_axis, spec.dtype, spec.origin) == (0, "float32", "its sample inputs")
        assert isinstance(spec.shape[0], str)
        np.testing.assert_array_equal(spec.sample, images())
        run = session.run({spec.name: images()}, traced=True)
        np.testing.assert_allclose(run.outputs[0]["output"], expected(convnet()), rtol=1e-6, atol=1e-7)
        assert session.run({spec.name: images(1)}).outputs[0]["output"].shape == (1, 4)
        assert (session.fixed_batch, session.norm_paths, session.in_mode(training=True)) == (None, (), None)
        assert session.run({spec.name: images()}, float64=True).outputs[0]["output"].dtype == np.float64


class Nested(nn.Module):
    def forward(self, batch: dict[str, Tensor], times: int, *, scale: Tensor) -> dict[str, Tensor]:
        return {"sum": (batch["a"] + batch["b"]) * times * scale}


def test_nested_inputs_symbols_and_constants_of_a_program(tmp_path: Path) -> None:
    size, length = torch.export.Dim("size", max=64), torch.export.Dim("length", min=2, max=32)
    axes = {0: size, 1: length}
    job = export_job(
        Nested(),
        tmp_path / "model.pt2",
        {"a": torch.ones(3, 4), "b": torch.ones(3, 4)},
        2,
        scale=torch.ones(4),
        shapes={"batch": {"a": axes, "b": axes}, "times": None, "scale": {0: length}},
    )
    with EXPORTED.open(job) as session:
        symbolic, concrete = session.input_candidates()
        assert [spec.name for spec in symbolic] == ["batch.a", "batch.b", "scale"]
        assert [spec.batch_axis for spec in symbolic] == [0, 0, None]
        assert [spec.shape[1:] for spec in concrete] == [(4,), (4,), ()]
        batch = {"batch.a": np.full((2, 3), 5.0), "batch.b": np.full((2, 3), 1.0), "scale": np.full(3, 10.0)}
        given = {name: array.astype(np.float32) for name, array in batch.items()}
        np.testing.assert_array_equal(session.run(given).outputs[0]["sum"], np.full((2, 3), 120.0))
        with pytest.raises(RunError, match="input 'scale' is not given"):
            session.run({"batch.a": given["batch.a"], "batch.b": given["batch.b"]})
        with pytest.raises(RunError, match="Guard failed"):
            session.run({"batch.a": np.zeros((65, 3), "f"), "batch.b": np.zeros((65, 3), "f"), "scale": given["scale"]})


def test_a_static_program_takes_one_batch_size(tmp_path: Path) -> None:
    with EXPORTED.open(export_job(convnet(), tmp_path / "model.pt2", torch.from_numpy(images()))) as session:
        (spec,) = next(session.input_candidates())
        assert (session.fixed_batch, spec.shape, spec.batch_axis) == (5, (5, 3, 12, 12), 0)


@pytest.mark.parametrize("layers", [(1,), (4,)])
def test_places_in_a_program_are_the_modules_of_its_nodes(layers: tuple[int, ...], tmp_path: Path) -> None:
    job = export_job(training(*layers), tmp_path / "model.pt2", torch.from_numpy(images()), shapes=free_batch())
    with EXPORTED.open(job) as session:
        base, companions, probe = ({"input": array} for array in colours())
        found = session.localise(base, companions, probe, 0)
        calls = session.calls(base)
        changed = [session.run(base).changed for _ in range(2)]
    assert found.first is not None and calls is not None
    assert found.first.path == str(layers[0])
    assert found.first.type_name == "torch.nn.modules.batchnorm.BatchNorm2d"
    assert [place.path for place in calls.batch_statistics] == [str(layers[0])]
    names = ("running_mean", "running_var", "num_batches_tracked")
    assert changed == [tuple(f"{layers[0]}.{name}" for name in names)] * 2


def test_an_operation_over_the_batch_in_a_program(tmp_path: Path) -> None:
    model = with_operation(lambda x: x - x.mean(0, keepdim=True))
    job = export_job(model, tmp_path / "model.pt2", torch.from_numpy(images()), shapes=free_batch())
    with EXPORTED.open(job) as session:
        base, companions, probe = ({"input": array} for array in colours())
        found = session.localise(base, companions, probe, 0)
    assert found.first is not None
    assert (found.first.path, found.first.op) == ("3.1", "aten.mean.dim")


def test_a_program_with_a_type_written_into_it_does_not_run_in_double(tmp_path: Path) -> None:
    class Casts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.to(torch.float32) @ torch.ones(3, 3)

    job = export_job(Casts(), tmp_path / "model.pt2", torch.ones(2, 3), shapes=free_batch())
    with EXPORTED.open(job) as session:
        name = next(session.input_candidates())[0].name
        try:
            run = session.run({name: np.ones((2, 3), np.float32)}, float64=True)
        except UnsupportedRunError:
            return
    assert run.low_precision
