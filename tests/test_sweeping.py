"""Running models through the public functions: what is run, what is refused, and that everything stays as it was."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command import bn_audit_command
from torch import nn

import bn_audit
from bn_audit.errors import UsageError
from bn_audit.options import Options, SweepOptions
from bn_audit.subject.finding import Severity

SIZES = (1, 2, 4)


def network(*, training: bool = False) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    for _ in range(3):
        model(torch.randn(16, 6) * 2)
    model.eval()
    model[1].train(training)
    return model


def digest(model: nn.Module) -> str:
    """Return all that a run could change: tensors, modes, hooks."""
    parts = [repr([(name, module.training, len(module._forward_hooks)) for name, module in model.named_modules()])]
    parts += [f"{name} {tensor.tolist()} {tensor.requires_grad}" for name, tensor in model.state_dict().items()]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


@pytest.mark.parametrize("training, verdict", [(False, "independent"), (True, "content")])
def test_a_live_module_is_measured_and_stays_as_it_was(training: bool, verdict: str) -> None:
    model = network(training=training)
    torch.manual_seed(5)
    before, state, grad = digest(model), torch.random.get_rng_state(), torch.is_grad_enabled()
    report = bn_audit.sweep(model, batch_sizes=SIZES)
    assert report.observation is not None
    assert (report.observation.verdict, report.failed) == (verdict, ())
    assert digest(model) == before
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.is_grad_enabled() is grad
    assert ("BN401" in {finding.code for finding in report.findings}) is training
    assert report.observation.command == ""


def test_real_samples_are_used() -> None:
    samples = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    for given in (samples, torch.from_numpy(samples), samples.tolist()):
        report = bn_audit.sweep(network(), inputs={"input": given}, batch_sizes=SIZES, quick=True)
        assert report.failed == ()
        assert report.observation is not None
        assert report.observation.inputs[0].shape == (6,)
    with pytest.raises(UsageError, match="'input'"):
        bn_audit.sweep(network(), inputs={"input": "a text"}, batch_sizes=SIZES)


@pytest.mark.parametrize("give", [lambda samples: samples, lambda samples: samples.numpy()])
def test_one_array_is_that_of_the_only_input(give: Callable[[torch.Tensor], object]) -> None:
    report = bn_audit.sweep(network(), inputs=give(torch.randn(5, 6)), batch_sizes=SIZES, quick=True)
    assert report.observation is not None
    assert report.observation.inputs[0].origin == "5 samples of the given arrays"


def test_arrays_without_names_are_refused() -> None:
    with pytest.raises(UsageError, match="a list of Tensor names no input"):
        bn_audit.sweep(network(), inputs=[torch.randn(5, 6), torch.randn(5, 6)])


def test_check_runs_on_request_only(tmp_path: Path) -> None:
    report = bn_audit.check(network(training=True), batch_sizes=SIZES)
    assert report.observation is not None
    assert (report.observation.verdict, report.observation.tier) == ("content", "quick")
    assert bn_audit.check(network(training=True)).observation is None


@pytest.mark.parametrize("sizes", [(0, 1), (-2,), (1.5,), (True,), ()])
def test_sizes_that_are_none_are_refused(sizes: tuple[object, ...]) -> None:
    with pytest.raises(UsageError, match="batch sizes"):
        bn_audit.sweep(network(), batch_sizes=sizes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pickled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model.pt"
    torch.save(network(training=True), path)
    return path


def test_a_pickle_is_not_run_without_trust(pickled: Path) -> None:
    report = bn_audit.sweep(pickled, batch_sizes=SIZES)
    assert report.observation is None
    assert [entry.reason for entry in report.skipped if entry.code == "run"] == [
        "needs --trust: loading a torch-checkpoint file can run code in it"
    ]
    assert "BN101" in {finding.code for finding in report.findings}
    assert report.failed == ()


def test_a_trusted_pickle_runs_in_a_process_of_its_own(pickled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pickled.parent)
    before = pickled.read_bytes()
    said: list[str] = []
    report = bn_audit.sweep(
        "model.pt", batch_sizes=SIZES, trust=True, seed=3, progress=lambda what, passes: said.append(what)
    )
    seen = report.observation
    assert seen is not None
    assert (seen.verdict, seen.restored_by) == ("content", ("1",))
    assert seen.command == "bn-audit sweep model.pt --batch-sizes 1,2,4 --seed 3 --trust"
    assert "batch size 4" in said
    assert pickled.read_bytes() == before
    assert sorted(entry.name for entry in pickled.parent.iterdir()) == ["model.pt"]
    live = bn_audit.sweep(torch.load(pickled, weights_only=False), batch_sizes=SIZES, seed=3).observation
    assert live is not None
    assert live.effect == pytest.approx(seen.effect, rel=1e-3), "the same measurement in either process"


def test_a_state_dict_has_no_code_to_run(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "weights.pt")
    report = bn_audit.sweep(tmp_path / "weights.pt", trust=True)
    assert [entry.reason for entry in report.skipped if entry.code == "run"] == [
        "a state dict has no code to run: name a factory that builds the model, with --weights"
    ]
    assert report.failed == ()


def test_a_model_whose_class_is_gone_fails_in_one_line_beside_its_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from torch import nn\nclass Net(nn.Sequential):\n    pass\n"
    (tmp_path / "gone_for_good.py").write_text(source)
    with monkeypatch.context() as context:
        context.syspath_prepend(str(tmp_path))
        import gone_for_good

        model = gone_for_good.Net(*network(training=True))
        torch.save(model, tmp_path / "model.pt")
    (tmp_path / "gone_for_good.py").unlink()
    report = bn_audit.sweep(tmp_path / "model.pt", trust=True)
    assert [failure.stage for failure in report.failed] == ["run"]
    assert "gone_for_good" in report.failed[0].error
    assert "\n" not in report.failed[0].error
    assert report.failed[0].traceback is None
    assert report.observation is not None
    assert report.observation.verdict == "cannot-run"
    assert "BN101" in {finding.code for finding in report.findings}


def test_of_several_models_the_first_with_code_is_run(tmp_path: Path) -> None:
    torch.save({"ema": network().state_dict(), "model": network(training=True)}, tmp_path / "both.pt")
    seen = bn_audit.sweep(tmp_path / "both.pt", trust=True, batch_sizes=SIZES, quick=True).observation
    assert seen is not None
    assert (seen.model, seen.verdict) == ("model", "content")
    assert any("ema" in remark for remark in seen.remarks)


def test_a_file_with_a_model_that_was_not_run_is_not_called_clean(tmp_path: Path) -> None:
    torch.save({"ema": network(), "model": network()}, tmp_path / "both.pt")
    torch.save({"model": network()}, tmp_path / "one.pt")
    both, one = (
        bn_audit_command("sweep", tmp_path / name, "--trust", "--quick", "--batch-sizes", "1,2")
        for name in ("both.pt", "one.pt")
    )
    assert "verdict: pass (no findings; 1 of 2 models not run)" in both.out
    assert "verdict: clean" in one.out
    assert (both.code, one.code) == (0, 0)
    strict = bn_audit_command("sweep", tmp_path / "both.pt", "--trust", "--quick", "--batch-sizes", "1,2", "--strict")
    assert strict.code == 3


def test_a_run_that_was_refused_is_the_reason_of_the_exit_code(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "model.pt")
    outcome = bn_audit_command("sweep", tmp_path / "model.pt")
    assert outcome.code == 3
    assert "exit code 3: a run that was asked for did not take place" in outcome.out
    assert "--strict" not in outcome.out


def test_the_gate_fails_for_what_a_run_shows(pickled: Path) -> None:
    options = Options(
        sweep=SweepOptions(batch_sizes=SIZES, tier="quick", trust=True), select=("BN401",), fail_on=Severity.ERROR
    )
    audit = bn_audit.run([str(pickled)], options)
    assert audit.exit_code == 1
    silent = bn_audit.run([str(pickled)], Options(select=("BN401",)))
    assert silent.exit_code == 0


def test_the_command_prints_findings_and_ends_with_3_where_a_model_cannot_run(tmp_path: Path) -> None:
    torch.save(network(training=True), tmp_path / "model.pt")
    outcome = bn_audit_command(
        *("check", tmp_path / "model.pt", "--batch-sizes", "1,2", "--trust", "--input", "x=float32:7")
    )
    assert outcome.code == 3
    assert "BN101" in outcome.out
    assert "mat1 and mat2" in outcome.text
    assert "Traceback" not in outcome.text


def test_copies_of_one_weight_are_left_alone() -> None:
    """Two calls on one module give one result: nothing is kept between them."""
    model = network(training=True)
    twin = copy.deepcopy(model)
    first, second, third = (
        bn_audit.sweep(target, batch_sizes=SIZES, quick=True).observation for target in (model, model, twin)
    )
    assert first is not None and second is not None and third is not None
    assert first.effect == second.effect == third.effect


def test_a_layer_without_running_statistics_is_a_registered_one() -> None:
    model = network()
    model[1] = nn.BatchNorm1d(5, track_running_stats=False).eval()
    report = bn_audit.sweep(model, batch_sizes=SIZES)
    assert report.observation is not None
    assert (report.observation.verdict, report.observation.registered_norms) == ("content", 1)
    assert report.observation.unregistered_norms == ()
    assert "BN106" not in {finding.code for finding in report.findings}


def test_a_memory_limit_that_does_not_hold_is_told() -> None:
    seen = bn_audit.sweep(network(), batch_sizes=SIZES, quick=True, memory_limit=1 << 34).observation
    assert seen is not None
    assert "no memory limit was set: it ran in this process" in seen.remarks
