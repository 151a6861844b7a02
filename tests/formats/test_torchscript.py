"""TorchScript: modes, settings, tensors and batch dependence are what torch itself says about the loaded archive."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchscript_networks import NETWORKS, FromCaller, Plain

from bn_audit.containers.source import Source
from bn_audit.containers.target import FileTarget
from bn_audit.formats.torchscript import FORMAT
from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin, NormKind, NormLayer
from bn_audit.subject.subject import Facts, Form, Subject

warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch")
pytestmark = pytest.mark.filterwarnings("ignore")

IMAGES = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def trained(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = build().train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for _ in range(2):
            model(torch.randn(4, 3, 6, 6) * 2 + 1)
    return model


def script(model: nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.script(model)


def trace(model: nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.trace(copy.deepcopy(model), IMAGES, check_trace=False)


def freeze(model: nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.freeze(torch.jit.script(model), optimize_numerics=False)


def freeze_traced(model: nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.freeze(trace(model).eval(), optimize_numerics=False)


def read(path: Path) -> Subject:
    with Source(path) as source:
        target = FileTarget(source)
        assert FORMAT.sniff(target)
        return FORMAT.read(target)


def saved(tmp_path: Path, model: torch.jit.ScriptModule) -> tuple[Subject, Path]:
    path = tmp_path / "model.pt"
    model.save(str(path))
    return read(path), path


def mixes_samples(path: Path, *more: object) -> bool:
    """Measure whether a sample's output depends on its companions, each time on a freshly loaded model."""
    others = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    others[0] = IMAGES[0]
    with torch.no_grad():
        one, other = (torch.jit.load(str(path))(batch, *more)[0] for batch in (IMAGES, others))
    return not torch.equal(one, other)


def calls_of(path: Path) -> Iterator[tuple[str, object, object, object]]:
    """Yield what torch's own graph says about each norm call: operator, training, momentum, eps."""
    graph = torch.jit.load(str(path)).inlined_graph
    for op in ("aten::batch_norm", "aten::instance_norm"):
        for node in graph.findAllNodes(op):
            yield op, *(value.toIValue() for value in list(node.inputs())[5:8])


def by_path(subject: Subject) -> dict[str, NormLayer]:
    return {norm.path: norm for norm in subject.norms}


@pytest.mark.parametrize("flag", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("form", [script, trace, freeze, freeze_traced], ids=lambda form: form.__name__)
@pytest.mark.parametrize("name", NETWORKS)
def test_batch_dependence_is_what_torch_measures(
    name: str, form: Callable[[nn.Module], torch.jit.ScriptModule], flag: bool, tmp_path: Path
) -> None:
    model = trained(NETWORKS[name]).train(flag)
    if form is freeze and flag:
        model.eval()  # torch refuses to freeze a scripted model in training mode
    subject, path = saved(tmp_path, form(model))
    assert any(norm.uses_batch_statistics for norm in subject.norms) == mixes_samples(path)
    assert all(norm.uses_batch_statistics is not None for norm in subject.norms)
    assert {norm.confidence for norm in subject.norms} <= {Confidence.HIGH}


@pytest.mark.parametrize("flag", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("form", [trace, freeze_traced], ids=lambda form: form.__name__)
@pytest.mark.parametrize("name", NETWORKS)
def test_baked_calls_are_those_of_torchs_graph(
    name: str, form: Callable[[nn.Module], torch.jit.ScriptModule], flag: bool, tmp_path: Path
) -> None:
    subject, path = saved(tmp_path, form(trained(NETWORKS[name]).train(flag)))
    found = [
        (
            "aten::instance_norm" if norm.kind is NormKind.INSTANCE_NORM else "aten::batch_norm",
            norm.mode is Mode.TRAIN,
            norm.momentum,
            norm.eps,
        )
        for norm in subject.norms
    ]
    assert sorted(found) == sorted(calls_of(path))
    assert {norm.mode_origin for norm in subject.norms} <= {ModeOrigin.TRACED_CONSTANT}


def test_tracing_in_training_mode_and_then_eval_stays_batch_dependent(tmp_path: Path) -> None:
    traced = trace(trained(Plain)).eval()
    subject, path = saved(tmp_path, traced)
    assert not torch.jit.load(str(path)).training
    assert mixes_samples(path)
    assert subject.models[0].modules[0].training is False
    assert [(norm.mode, norm.uses_batch_statistics) for norm in subject.norms] == [(Mode.TRAIN, True)] * 2
    assert subject.models[0].mode is Mode.TRAIN


def test_tracing_in_eval_mode_and_then_train_stays_independent(tmp_path: Path) -> None:
    traced = trace(trained(Plain).eval()).train()
    subject, path = saved(tmp_path, traced)
    assert torch.jit.load(str(path)).training
    assert not mixes_samples(path)
    assert subject.models[0].modules[0].training is True
    assert [(norm.mode, norm.uses_batch_statistics) for norm in subject.norms] == [(Mode.EVAL, False)] * 2


def test_mixed_modes_are_told_apart(tmp_path: Path) -> None:
    model = trained(Plain).eval()
    model.bn.train()
    for form, origin in ((script, ModeOrigin.SCRIPTED_FLAG), (trace, ModeOrigin.TRACED_CONSTANT)):
        subject, _path = saved(tmp_path, form(model))
        layers = by_path(subject)
        assert (layers["bn"].mode, layers["head.2"].mode) == (Mode.TRAIN, Mode.EVAL)
        assert {norm.mode_origin for norm in subject.norms} == {origin}


def test_traced_part_of_a_scripted_model_keeps_its_baked_mode(tmp_path: Path) -> None:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = trace(trained(Plain))
            self.bn = nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.bn(self.backbone(x))

    subject, path = saved(tmp_path, script(Mixture().eval()))
    layers = by_path(subject)
    assert layers["backbone.bn"].mode is Mode.TRAIN
    assert layers["backbone.bn"].mode_origin is ModeOrigin.TRACED_CONSTANT
    assert layers["bn"].mode is Mode.EVAL
    assert layers["bn"].mode_origin is ModeOrigin.SCRIPTED_FLAG
    assert mixes_samples(path)


def test_frozen_graph_keeps_the_exact_tensors(tmp_path: Path) -> None:
    model = trained(Plain).eval()
    subject, path = saved(tmp_path, freeze(model))
    torch.jit.load(str(path))
    for norm, module in zip(subject.norms, (model.bn, model.head[2]), strict=True):
        assert (norm.eps, norm.num_features, norm.mode) == (module.eps, 4, Mode.EVAL)
        for role, ref in norm.tensors.items():
            assert list(ref.values()) == getattr(module, role).detach().tolist()
        assert set(norm.tensors) == {"weight", "bias", "running_mean", "running_var"}
    assert [norm.path for norm in subject.norms] == ["batch_norm", "batch_norm_1"]
    assert Facts.REGISTRY not in subject.facts


def test_mode_that_the_caller_gives(tmp_path: Path) -> None:
    subject, path = saved(tmp_path, script(FromCaller().eval()))
    (norm,) = subject.norms
    assert (norm.mode, norm.uses_batch_statistics) == (Mode.CALLER, None)
    assert mixes_samples(path, True)
    assert not mixes_samples(path, False)


def test_origins_of_calls_in_training_form(tmp_path: Path) -> None:
    for form in (script, trace):
        for name, origin in (
            ("standardised", InputOrigin.PARAMETERS),
            ("disguised-instance", InputOrigin.INSTANCES),
            ("functional-untracked", InputOrigin.ACTIVATIONS),
        ):
            subject, _path = saved(tmp_path, form(trained(NETWORKS[name])))
            assert [norm.input_origin for norm in subject.norms] == [origin]


def test_model_facts(tmp_path: Path) -> None:
    model = trained(Plain)
    model.bn.weight.requires_grad_(False)
    model.bn.bias.requires_grad_(False)
    subject, _path = saved(tmp_path, script(model))
    (read_model,) = subject.models
    assert (read_model.form, read_model.mode) == (Form.GRAPH, Mode.TRAIN)
    assert subject.facts == (
        Facts.MODES | Facts.REGISTRY | Facts.SETTINGS | Facts.VALUES | Facts.GRADIENTS | Facts.GRAPH
    )
    assert [node.path for node in read_model.modules] == [path for path, _module in model.named_modules()]
    assert {ref.name: ref.shape for ref in read_model.tensors} == {
        name: tuple(value.shape) for name, value in model.state_dict().items()
    }
    layers = by_path(subject)
    assert (layers["bn"].requires_grad, layers["head.2"].requires_grad) == (False, True)
    assert layers["bn"].preceding == "conv"
    assert layers["head.2"].preceding == "head.1"
