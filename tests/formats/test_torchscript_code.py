"""TorchScript code is followed as torch runs it: branches, loops, lists, forks, methods."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bn_audit.containers.source import Source
from bn_audit.containers.target import FileTarget
from bn_audit.errors import UnsupportedFormatError
from bn_audit.formats.torchscript import FORMAT
from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import InputOrigin, Mode, ModeOrigin
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


class Branching(nn.Module):
    """One norm in each branch of conditions that are known, flags, and not known."""

    def __init__(self) -> None:
        super().__init__()
        self.use_extra = False
        self.in_training = nn.BatchNorm1d(3)
        self.in_eval = nn.BatchNorm1d(3)
        self.extra = nn.BatchNorm1d(3)
        self.sometimes = nn.BatchNorm1d(3)
        self.otherwise = nn.BatchNorm1d(3)
        self.never = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.in_training(x) if self.training else self.in_eval(x)
        if self.use_extra:
            x = self.extra(x)
        return self.sometimes(x) if bool(x.sum() > 0) else self.otherwise(x)


def test_branches(tmp_path: Path) -> None:
    model = Branching().train()
    found = uses(scripted(tmp_path, model))
    assert found == {
        "in_training": True,
        "in_eval": False,
        "extra": False,
        "sometimes": True,
        "otherwise": True,
        "never": False,
    }
    model.eval()
    model.in_eval.train()
    assert uses(scripted(tmp_path, model)) == dict.fromkeys(found, False) | {"in_eval": True}


def test_layers_that_forward_never_calls_are_listed_with_their_flag(tmp_path: Path) -> None:
    subject = scripted(tmp_path, Branching().train())
    never = next(norm for norm in subject.norms if norm.path == "never")
    assert (never.mode, never.mode_origin) == (Mode.TRAIN, ModeOrigin.SCRIPTED_FLAG)


class Looping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(3)
        self.layers = nn.ModuleList([nn.BatchNorm1d(3), nn.BatchNorm1d(3)])

    def forward(self, x: Tensor, turns: int) -> Tensor:
        features = [x]
        first = True
        for _ in range(turns):
            if not first:
                x = self.bn(x)
            first = False
            features.append(x)
        while bool(x.sum() > 0):
            x = F.batch_norm(torch.stack(features).sum(0), None, None, training=True)
        for layer in self.layers:
            x = layer(x)
        return x


def test_loops_and_growing_lists(tmp_path: Path) -> None:
    subject = scripted(tmp_path, Looping())
    assert uses(subject) == {"bn": True, "layers.0": True, "layers.1": True, "batch_norm": True}
    assert subject.norms[-1].input_origin is not InputOrigin.PARAMETERS


class Forking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(3)

    def branch(self, x: Tensor) -> Tensor:
        return self.bn(x)

    def forward(self, x: Tensor) -> Tensor:
        future = torch.jit.fork(self.branch, x)
        with torch.no_grad():
            x = x + 1
        return torch.jit.wait(future) + x


def test_forks_and_with_blocks(tmp_path: Path) -> None:
    assert uses(scripted(tmp_path, Forking())) == {"bn": True}


class Counting(nn.Module):
    """Sets its own attribute: what is saved holds for the first call alone."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.bn = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        if self.calls > 0:
            x = self.bn(x)
        self.calls = self.calls + 1
        return x


def test_attributes_that_change(tmp_path: Path) -> None:
    assert uses(scripted(tmp_path, Counting())) == {"bn": True}


class WrittenInPlace(nn.Module):
    """Looks like a constant to whoever overlooks the write."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 3))

    def forward(self, x: Tensor) -> Tensor:
        copied = self.weight.repeat([4, 1])
        copied[0:2] = x[0:2]
        return F.batch_norm(copied, None, None, training=True)


@pytest.mark.parametrize("form", [scripted, traced])
def test_write_in_place_is_no_parameter(form: Form, tmp_path: Path) -> None:
    (norm,) = form(tmp_path, WrittenInPlace()).norms
    assert norm.input_origin in (InputOrigin.ACTIVATIONS, InputOrigin.UNDECIDED)
    assert norm.uses_batch_statistics is True


class Folding(nn.Module):
    """Folds the samples into the channels without a known rank: it cannot be proved."""

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x.reshape(1, -1, 3), None, None, training=True).reshape(x.shape)


def test_what_is_not_proved_is_undecided(tmp_path: Path) -> None:
    (norm,) = scripted(tmp_path, Folding()).norms
    assert norm.input_origin is InputOrigin.UNDECIDED
    assert (norm.uses_batch_statistics, norm.confidence) == (True, Confidence.MEDIUM)


def test_lite_interpreter_archives(tmp_path: Path) -> None:
    path, bare = tmp_path / "model.ptl", tmp_path / "bare.ptl"
    torch.jit.script(nn.Sequential(nn.BatchNorm1d(3)))._save_for_lite_interpreter(str(path))
    (norm,) = read(path).norms
    assert norm.uses_batch_statistics is True
    with zipfile.ZipFile(path) as full, zipfile.ZipFile(bare, "w") as stripped:
        for info in full.infolist():
            if "/code/" not in info.filename and "constants" not in info.filename:
                stripped.writestr(info, full.read(info))
    with pytest.raises(UnsupportedFormatError, match="lite interpreter"):
        read(bare)


def test_archives_of_torch_before_1_4_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "old.pt", "w") as archive:
        archive.writestr("old/model.json", "{}")
        archive.writestr("old/code/old.py", "op_version_set = 1\n")
    with pytest.raises(UnsupportedFormatError, match=r"before 1\.4"):
        read(tmp_path / "old.pt")


def test_other_archives_are_not_taken(tmp_path: Path) -> None:
    torch.save(nn.BatchNorm1d(3), tmp_path / "module.pt")
    torch.save(nn.BatchNorm1d(3).state_dict(), tmp_path / "state.pt")
    torch.export.save(torch.export.export(nn.BatchNorm1d(3).eval(), (ROWS,)), tmp_path / "program.pt2")
    (tmp_path / "text.pt").write_text("constants.pkl code/")
    for path in tmp_path.iterdir():
        with Source(path) as source:
            assert not FORMAT.sniff(FileTarget(source))
