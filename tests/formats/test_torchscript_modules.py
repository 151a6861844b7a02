"""TorchScript modules: shared, hooked, exported, chosen at run time, hand-written."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bn_audit.containers.source import Source
from bn_audit.containers.target import FileTarget
from bn_audit.formats.torchscript import FORMAT
from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import Mode, NormKind, NormLayer
from bn_audit.subject.subject import Subject

pytestmark = pytest.mark.filterwarnings("ignore")

Form = Callable[..., Subject]

ROWS = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))


def read(path: Path) -> Subject:
    with Source(path) as source:
        target = FileTarget(source)
        assert FORMAT.sniff(target)
        return FORMAT.read(target)


def scripted(tmp_path: Path, model: nn.Module) -> Subject:
    path = tmp_path / "model.pt"
    torch.jit.script(model).save(str(path))
    return read(path)


def traced(tmp_path: Path, model: nn.Module, *inputs: Tensor) -> Subject:
    path = tmp_path / "model.pt"
    torch.jit.trace(model, inputs or (ROWS,), check_trace=False).save(str(path))
    return read(path)


def uses(subject: Subject) -> dict[str, bool | None]:
    return {norm.path: norm.uses_batch_statistics for norm in subject.norms}


class Exporting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.main = nn.BatchNorm1d(3)
        self.other = nn.BatchNorm1d(3)

    @torch.jit.export
    def embed(self, x: Tensor) -> Tensor:
        return self.other(x)

    def helper(self, x: Tensor) -> Tensor:
        return self.main(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.helper(x)


def test_layers_of_other_methods_depend_on_the_caller(tmp_path: Path) -> None:
    subject = scripted(tmp_path, Exporting())
    assert uses(subject) == {"main": True, "other": None}
    (reason,) = subject.unread
    assert "embed()" in reason


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(3)
        self.again = self.bn
        self.layers = nn.ModuleDict({"class": nn.BatchNorm1d(3), "lambda": nn.BatchNorm1d(3), "a b": nn.ReLU()})

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.bn(x))
        for layer in self.layers.values():
            x = layer(x)
        return self.bn(x)


@pytest.mark.parametrize("form", [scripted, traced])
def test_shared_modules_and_keywords_as_names(form: Form, tmp_path: Path) -> None:
    subject = form(tmp_path, Shared())
    assert uses(subject) == {"bn": True, "layers.class": True, "layers.lambda": True}
    assert {norm.path: norm.aliases for norm in subject.norms}["bn"] == ("again",)


class Hooked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        return x + 1


def normalise(self: Hooked, _input: tuple[Tensor], output: Tensor) -> Tensor:
    return self.bn(output)


def test_hooks_run_with_forward(tmp_path: Path) -> None:
    inner, outer = Hooked(), Hooked()
    inner.register_forward_hook(normalise)
    outer.register_forward_hook(normalise)
    assert uses(scripted(tmp_path, nn.Sequential(inner))) == {"0.bn": True}
    assert uses(scripted(tmp_path, outer)) == {"bn": True}


with warnings.catch_warnings(action="ignore"):

    @torch.jit.interface
    class Layer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            pass


class Chosen(nn.Module):
    """Calls one of its layers, by an index that the caller gives."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Looped(), Looped()])

    def forward(self, x: Tensor, index: int) -> Tensor:
        layer: Layer = self.layers[index]
        return layer.forward(x)


class Looped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(x)


def test_chosen_layers_all_count(tmp_path: Path) -> None:
    assert uses(scripted(tmp_path, Chosen())) == {"layers.0.bn": True, "layers.1.bn": True}


class Handmade(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.bias = nn.Parameter(torch.zeros(3))
        self.register_buffer("running_mean", torch.zeros(3))
        self.register_buffer("running_var", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        mean, var = (x.mean(0), x.var(0)) if self.training else (self.running_mean, self.running_var)
        return (x - mean) / torch.sqrt(var + 1e-5) * self.weight + self.bias


def test_handmade_norms(tmp_path: Path) -> None:
    (live,) = scripted(tmp_path, nn.Sequential(Handmade())).norms
    assert (live.path, live.mode, live.uses_batch_statistics) == ("0", Mode.TRAIN, True)
    (baked,) = traced(tmp_path, nn.Sequential(Handmade()).eval()).norms
    assert (baked.mode, baked.uses_batch_statistics, baked.confidence) == (Mode.UNKNOWN, None, Confidence.MEDIUM)


def test_sync_batch_norm(tmp_path: Path) -> None:
    images = torch.randn(2, 3, 4, 4)
    (norm,) = traced(tmp_path, nn.Sequential(nn.SyncBatchNorm(3)).eval(), images).norms
    assert (norm.kind, norm.mode, norm.uses_batch_statistics) == (NormKind.SYNC_BATCH_NORM, Mode.EVAL, False)


def layer(subject: Subject, path: str) -> NormLayer:
    return next(norm for norm in subject.norms if norm.path == path)


def test_settings_of_scripted_layers(tmp_path: Path) -> None:
    model = nn.Sequential(nn.BatchNorm1d(3, momentum=None), nn.BatchNorm1d(3, 1e-3, 0.25, affine=False)).eval()
    subject = scripted(tmp_path, model)
    first, second = layer(subject, "0"), layer(subject, "1")
    assert (first.cumulative, first.momentum, first.affine, first.track_running_stats) == (True, None, True, True)
    assert (second.cumulative, second.momentum, second.eps, second.affine) == (False, 0.25, 1e-3, False)
    assert set(second.tensors) == {"running_mean", "running_var", "num_batches_tracked"}
