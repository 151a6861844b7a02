"""The assertions for other projects' tests: what passes, what fails, and what the message says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import bn_audit.sweeping
from bn_audit import ArtifactError, UsageError
from bn_audit.subject.finding import Confidence, Finding, Intent, Location, Severity
from bn_audit.subject.observation import Observation, Place
from bn_audit.subject.report import Failed, Report
from bn_audit.testing import assert_batch_independent, assert_inference_ready


def trained() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)))
    for _ in range(3):
        model(torch.randn(8, 3, 6, 6) * 2 + 1)
    return model


def test_a_model_in_evaluation_is_ready() -> None:
    report = assert_inference_ready(trained().eval())
    assert [norm.path for norm in report.norms] == ["1", "2.1"]


def test_the_message_names_every_layer_and_the_remedy() -> None:
    with pytest.raises(AssertionError) as caught:
        assert_inference_ready(trained())
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("is not ready for inference")
    assert lines[1:3] == [
        "  error BN101 train-mode: 2 of 2 batch-norm layers are in training mode",
        "    where: 1, 2.1",
    ]
    assert lines[3].startswith("    fix: Call model.eval()")
    assert len(lines) == 4


def test_a_long_list_of_layers_is_cut() -> None:
    model = nn.Sequential(*[nn.BatchNorm1d(2) for _ in range(13)])
    with pytest.raises(AssertionError, match=r"where: 0, 1, .*, 9 and 3 more"):
        assert_inference_ready(model)


def test_files_are_read_and_not_run(tmp_path: Path) -> None:
    torch.save(trained(), tmp_path / "train.pt")
    torch.save(trained().eval(), tmp_path / "eval.pt")
    assert_inference_ready(tmp_path / "eval.pt")
    with pytest.raises(AssertionError, match="BN101"):
        assert_inference_ready(tmp_path / "train.pt")
    assert_inference_ready(tmp_path / "train.pt", intent=Intent.RESUME)
    assert_inference_ready(tmp_path / "train.pt", ignore=["BN101"])


def test_levels_and_what_was_not_checked(tmp_path: Path) -> None:
    model = trained().eval()
    model[1].momentum = 0.99
    assert_inference_ready(model)
    with pytest.raises(AssertionError, match="warning BN209"):
        assert_inference_ready(model, fail_on="warning")
    torch.save(trained().state_dict(), tmp_path / "state.pt")
    assert_inference_ready(tmp_path / "state.pt")
    with pytest.raises(AssertionError, match="BN111"):
        assert_inference_ready(tmp_path / "state.pt", strict=True)


def test_errors_of_the_call_are_no_failed_assertions(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fatal"):
        assert_inference_ready(trained().eval(), fail_on="fatal")
    with pytest.raises(ArtifactError):
        assert_inference_ready(tmp_path / "missing.pt")


FINDING = Finding(
    code="BN401",
    name="depends-on-companions",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
    message="output 0 depends on the other samples",
    remedy="Repair the layer that is named.",
    locations=(Location(path="body.1"),),
)


def observed(verdict: str, **figures: Any) -> Observation:
    return Observation(runner="torch", verdict=verdict, why="", **figures)


@pytest.fixture
def swept(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, object]]:
    """Return a function that makes the next sweep give one report, and gives the arguments that it gets."""

    def arrange(observation: Observation | None, **parts: Any) -> dict[str, object]:
        asked: dict[str, object] = {}
        report = Report(source="<Net>", format="live-module", intent=Intent.DEPLOY, observation=observation, **parts)

        def sweep(target: object, **settings: object) -> Report:
            asked.update(settings, target=target)
            return report

        monkeypatch.setattr(bn_audit.sweeping, "sweep", sweep)
        return asked

    return arrange


@pytest.mark.parametrize("flags", [(), ("rng",), ("stateful", "mutates-state")])
def test_an_independent_model_passes(swept: Callable[..., Mapping[str, object]], flags: tuple[str, ...]) -> None:
    asked = swept(observed("independent", flags=flags))
    report = assert_batch_independent("net.onnx", "x=float32:3", batch_sizes=(1, 4), quick=True, trust=True)
    assert report.observation is not None
    assert asked == {
        "target": "net.onnx", "inputs": "x=float32:3", "batch_sizes": (1, 4), "quick": True, "trust": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("content", "depends on the other samples of its batch"),
        ("position", "depends on its row in the batch"),
        ("size", "depends on the number of rows in its batch"),
    ],
)
def test_a_dependence_fails_with_place_and_remedy(swept: Callable[..., object], verdict: str, words: str) -> None:
    place = Place(path="body.1", type_name="BatchNorm2d", op="aten.native_batch_norm.default")
    swept(observed(verdict, effect=0.3125, first_divergence=place, restored_by=("body.1",)), findings=(FINDING,))
    with pytest.raises(AssertionError) as caught:
        assert_batch_independent(nn.Identity())
    lines = str(caught.value).splitlines()
    assert lines[0] == f"<Net>: the answer for a sample {words}, by 0.31 of its largest element"
    assert lines[1] == "  first layer where samples mix: body.1 (BatchNorm2d, aten.native_batch_norm.default)"
    assert lines[2] == "  in evaluation these end it: body.1"
    assert lines[3].startswith("  fix: set those layers to evaluation: model.eval(), and bn_audit.freeze_bn(model)")
    assert lines[4:] == [
        "  error BN401 depends-on-companions: output 0 depends on the other samples",
        "    where: body.1",
        "    fix: Repair the layer that is named.",
    ]


@pytest.mark.parametrize("verdict", ["cannot-run", "inconclusive"])
def test_no_verdict_is_no_success(swept: Callable[..., object], verdict: str) -> None:
    swept(observed(verdict), failed=(Failed(stage="run", error="needs an input"),))
    with pytest.raises(AssertionError, match=rf"no verdict \({verdict}\)\n  fix: give inputs.*\n.*needs an input"):
        assert_batch_independent(nn.Identity())


def test_a_model_that_was_not_run_is_no_success(swept: Callable[..., object]) -> None:
    swept(None)
    with pytest.raises(AssertionError, match="it was not run"):
        assert_batch_independent(nn.Identity())


def test_hostile_names_stay_in_their_line(swept: Callable[..., object]) -> None:
    swept(observed("content", first_divergence=Place(path="a\x1b[2J\nb")))
    with pytest.raises(AssertionError) as caught:
        assert_batch_independent(nn.Identity())
    assert "\x1b" not in str(caught.value)
    assert r"a\x1b[2J\nb" in str(caught.value)


class Centred(nn.Module):
    """Subtracts the mean of the batch: no norm layer, and samples mix all the same."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(dim=0)


def fed(inner: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 6), inner, nn.Tanh(), nn.Linear(6, 3)).eval()


def samples() -> dict[str, object]:
    return {"input": torch.randn(8, 6, generator=torch.Generator().manual_seed(0))}


@pytest.mark.parametrize("inner", [nn.ReLU(), nn.LayerNorm(6), nn.Dropout(0.5)])
def test_measured_independent_models_pass(inner: nn.Module) -> None:
    report = assert_batch_independent(fed(inner), samples(), quick=True)
    assert report.observation is not None
    assert report.observation.verdict == "independent"


def test_a_measured_dependence_fails() -> None:
    with pytest.raises(AssertionError, match="depends on the other samples of its batch"):
        assert_batch_independent(fed(Centred()), samples(), quick=True)


def test_a_batch_norm_left_in_training_mode_fails_and_is_named() -> None:
    model = fed(nn.BatchNorm1d(6))
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2.0)
    model[1].train()
    with pytest.raises(AssertionError, match=r"depends on the other samples(.|\n)*where: 1\b(.|\n)*fix: "):
        assert_batch_independent(model, samples())
    model.eval()
    assert_batch_independent(model, samples())
