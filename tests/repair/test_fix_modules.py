"""Repaired pickles and TorchScript archives: torch loads them in evaluation mode, with the same weights."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from zoo.catalogue import ZOO, Mode, modes, network

import bn_audit
from bn_audit.errors import UnsupportedFormatError, UsageError
from bn_audit.options import Options
from bn_audit.repair.fixing import fix
from bn_audit.subject.design import DESIGN_CODES, Design
from bn_audit.subject.waiver import Waiver

NAMES = ("plain_cnn", "resnet", "mlp_bn1d", "with_dropout", "shared_bn", "sync_bn", "averaged_model")
SCRIPTED = ("plain_cnn", "resnet", "mlp_bn1d", "with_dropout")


def _pickled(protocol: int) -> Callable[[object, Path], None]:
    return lambda value, path: path.write_bytes(pickle.dumps(value, protocol))


SAVES: dict[str, Callable[[object, Path], None]] = {
    "zip": torch.save,
    "legacy": lambda value, path: torch.save(value, path, _use_new_zipfile_serialization=False),
    "pickle 2": _pickled(2),
    "pickle 5": _pickled(5),
    "checkpoint": lambda value, path: torch.save({"model": value, "epoch": 3, "training": True}, path),
}


def loaded(path: Path) -> nn.Module:
    if path.read_bytes()[:2] == b"PK" or b"\x8a\x0a" in path.read_bytes()[:16]:
        value = torch.load(path, weights_only=False)
    else:
        value = pickle.loads(path.read_bytes())
    return value["model"] if isinstance(value, dict) else value


def every(module: nn.Module) -> list[nn.Module]:
    """Return all modules, also those that hang in a plain list."""
    found = list(module.modules())
    for owner in list(found):
        for value in vars(owner).values():
            found += [item for item in value if isinstance(item, nn.Module)] if isinstance(value, list) else []
    return found


@pytest.mark.parametrize("saved", SAVES)
@pytest.mark.parametrize(
    ("name", "mode"), [(name, mode) for name in NAMES for mode in modes(name) if mode is not Mode.EVAL]
)
def test_a_module_answers_as_in_evaluation_mode(tmp_path: Path, name: str, mode: Mode, saved: str) -> None:
    if saved.startswith("pickle") and name == "averaged_model":
        pytest.skip("its own function is not picklable without torch.save")
    SAVES[saved](network(name, mode), tmp_path / "model.pt")
    before = (tmp_path / "model.pt").read_bytes()
    fixed = fix(tmp_path / "model.pt", tmp_path / "fixed.pt")
    assert fixed.repair is not None
    assert fixed.repair.changes
    assert (tmp_path / "model.pt").read_bytes() == before
    if before[:2] == b"PK":
        assert zipfile.ZipFile(tmp_path / "fixed.pt").testzip() is None
    result = loaded(tmp_path / "fixed.pt")
    assert not any(module.training for module in every(result))
    torch.manual_seed(1)
    inputs = ZOO[name].inputs()
    with torch.no_grad():
        torch.testing.assert_close(result(*inputs), network(name, Mode.EVAL)(*inputs), rtol=0, atol=0)


def test_layers_outside_the_registry_are_set_too(tmp_path: Path) -> None:
    torch.save(network("hidden_norms", Mode.TRAIN), tmp_path / "model.pt")
    fix(tmp_path / "model.pt", tmp_path / "fixed.pt")
    result = loaded(tmp_path / "fixed.pt")
    assert len(every(result)) > len(list(result.modules()))
    assert not any(module.training for module in every(result))


def test_only_the_flags_of_modules_change(tmp_path: Path) -> None:
    torch.save({"model": network("plain_cnn", Mode.TRAIN), "training": True, "flags": [True]}, tmp_path / "a.pt")
    fixed = fix(tmp_path / "a.pt", tmp_path / "b.pt")
    value = torch.load(tmp_path / "b.pt", weights_only=False)
    assert (value["training"], value["flags"]) == (True, [True])
    assert fixed.repair is not None
    assert len(fixed.repair.changes) == len(list(value["model"].modules()))
    assert all(parameter.requires_grad for parameter in value["model"].parameters())


@pytest.mark.parametrize("name", SCRIPTED)
def test_a_script_answers_as_in_evaluation_mode(tmp_path: Path, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(network(name, Mode.TRAIN)).save(tmp_path / "model.pt")
        fixed = fix(tmp_path / "model.pt", tmp_path / "fixed.pt")
        result = torch.jit.load(tmp_path / "fixed.pt")
    assert fixed.after is not None
    assert fixed.after.exit_code == 0
    inputs = ZOO[name].inputs()
    with torch.no_grad():
        torch.testing.assert_close(result(*inputs), network(name, Mode.EVAL)(*inputs), rtol=1e-5, atol=1e-6)


def test_a_model_in_order_is_not_written(tmp_path: Path) -> None:
    torch.save(network("plain_cnn", Mode.EVAL), tmp_path / "model.pt")
    fixed = fix(tmp_path / "model.pt", tmp_path / "fixed.pt")
    assert fixed.repair is not None
    assert (fixed.repair.changes, fixed.repair.refused, fixed.after) == ((), (), None)
    assert not (tmp_path / "fixed.pt").exists()


@pytest.mark.parametrize(
    ("save", "advice"),
    [
        (lambda path: torch.save(network("plain_cnn", Mode.TRAIN).state_dict(), path), "records no mode"),
        (
            lambda path: torch.export.save(
                torch.export.export(network("plain_cnn", Mode.TRAIN), ZOO["plain_cnn"].inputs(), strict=False), path
            ),
            "export the model again",
        ),
    ],
    ids=["state dict", "exported program"],
)
def test_what_records_no_flag_is_refused(tmp_path: Path, save: Callable[[Path], None], advice: str) -> None:
    path = tmp_path / "model.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(path)
    fixed = fix(path, tmp_path / "fixed.pt2")
    assert fixed.repair is not None
    [refusal] = fixed.repair.refused
    assert advice in refusal
    assert not (tmp_path / "fixed.pt2").exists()


def test_old_protocols_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(network("mlp_bn1d", Mode.TRAIN), 0))
    with pytest.raises(UnsupportedFormatError, match="old pickle protocols"):
        fix(tmp_path / "model.pkl", tmp_path / "fixed.pkl")


SOURCE = """
from torch import nn

class Samples(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.dropout = nn.Dropout()

    def forward(self, x):
        return self.dropout(self.norm(x))

class Keeps(Samples):
    def train(self, mode=True):
        super().train(mode)
        self.dropout.train()
        return self

class Inherits(Keeps):
    pass
"""


@pytest.mark.parametrize(("name", "is_refused"), [("Samples", False), ("Keeps", True), ("Inherits", True)])
def test_a_class_with_a_mode_of_its_own_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, is_refused: bool
) -> None:
    (tmp_path / "mode_classes.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__("mode_classes")
    torch.save(getattr(module, name)(), tmp_path / "model.pt")
    monkeypatch.delitem(__import__("sys").modules, "mode_classes")
    fixed = fix(tmp_path / "model.pt", tmp_path / "fixed.pt")
    assert fixed.repair is not None
    assert [sentence.partition(" ")[0] for sentence in fixed.repair.refused] == [f"mode_classes.{name}"] * is_refused
    assert bool(fixed.repair.changes) != is_refused
    assert "mode_classes" not in __import__("sys").modules


def test_the_class_is_looked_up_where_the_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "local_classes.py").write_text(SOURCE)
    with monkeypatch.context() as patched:
        patched.syspath_prepend(tmp_path)
        torch.save(__import__("local_classes").Keeps(), tmp_path / "model.pt")
        patched.delitem(__import__("sys").modules, "local_classes")
    monkeypatch.chdir(tmp_path)
    fixed = fix("model.pt", "fixed.pt")
    assert fixed.repair is not None
    assert [sentence.partition(" ")[0] for sentence in fixed.repair.refused] == ["local_classes.Keeps"]


def _without_statistics(path: Path) -> None:
    torch.save(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False)).eval(), path)


def _with_a_nan(path: Path) -> None:
    model = network("plain_cnn", Mode.EVAL)
    next(value for name, value in model.state_dict().items() if name.endswith("running_var"))[0] = float("nan")
    torch.save(model, path)


def _traced_in_training_mode(path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.save(torch.jit.trace(model, torch.randn(5, 3), check_trace=False), path)


@pytest.mark.parametrize(
    ("save", "code"), [(_without_statistics, "BN103"), (_with_a_nan, "BN205"), (_traced_in_training_mode, "BN308")]
)
def test_an_error_that_no_flag_sets_right_is_refused(tmp_path: Path, save: Callable[[Path], None], code: str) -> None:
    save(tmp_path / "model.pt")
    fixed = fix(tmp_path / "model.pt", tmp_path / "fixed.pt")
    assert fixed.repair is not None
    assert [sentence.partition(" ")[0] for sentence in fixed.repair.refused] == [code]
    assert not (tmp_path / "fixed.pt").exists()


def test_declared_dropout_keeps_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(network("with_dropout", Mode.TRAIN), tmp_path / "model.pt")
    design = Design.MC_DROPOUT
    waiver = Waiver(codes=DESIGN_CODES[design], reason="samples its predictions", path="model.pt", intent=design)
    monkeypatch.chdir(tmp_path)
    fixed = fix("model.pt", "fixed.pt", options=Options(waivers=(waiver,)))
    assert fixed.repair is not None
    assert any("samples its predictions" in remark for remark in fixed.repair.remarks)
    kinds = {type(module): module.training for module in loaded(tmp_path / "fixed.pt").modules()}
    assert kinds[nn.Dropout]
    assert not kinds[nn.BatchNorm1d]


@pytest.mark.parametrize("target", ["model.pt", "there.pt", "no/folder.pt"])
def test_where_nothing_is_overwritten(tmp_path: Path, target: str) -> None:
    torch.save(network("plain_cnn", Mode.TRAIN), tmp_path / "model.pt")
    (tmp_path / "there.pt").write_bytes(b"mine")
    with pytest.raises(UsageError):
        fix(tmp_path / "model.pt", tmp_path / target)
    assert (tmp_path / "there.pt").read_bytes() == b"mine"


def test_the_audit_of_the_copy_is_clean(tmp_path: Path) -> None:
    torch.save(network("resnet", Mode.TRAIN), tmp_path / "model.pt")
    fixed = fix(tmp_path / "model.pt", tmp_path / "fixed.pt")
    assert {finding.code for finding in fixed.before.reports[0].findings} == {"BN101"}
    assert not bn_audit.check(tmp_path / "fixed.pt").findings


def test_a_waiver_may_name_the_model_within_a_checkpoint(tmp_path: Path) -> None:
    torch.save({"a": network("with_dropout", Mode.TRAIN), "b": network("with_dropout", Mode.TRAIN)}, tmp_path / "c.pt")
    waiver = Waiver(codes=DESIGN_CODES[Design.MC_DROPOUT], reason="samples", layer="b", intent=Design.MC_DROPOUT)
    fix(tmp_path / "c.pt", tmp_path / "fixed.pt", options=Options(waivers=(waiver,)))
    kept = {
        route: [module.training for module in model.modules() if isinstance(module, nn.Dropout)]
        for route, model in torch.load(tmp_path / "fixed.pt", weights_only=False).items()
    }
    assert not any(kept["a"])
    assert all(kept["b"])
