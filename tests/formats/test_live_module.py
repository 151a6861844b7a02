"""Live modules and factories, with and without a weights file."""

from __future__ import annotations

import hashlib
import io
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_model
from torch import nn

from bn_audit import check
from bn_audit.audit import read_subject
from bn_audit.containers.target import FactoryTarget, ModuleTarget
from bn_audit.errors import FactoryError, UnsupportedFormatError
from bn_audit.formats.live_module import FORMAT
from bn_audit.subject.norm import Mode, NormKind
from bn_audit.subject.subject import Facts, Form, Model, Subject
from bn_audit.subject.tensor import TensorRef


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4, eps=1e-3)
        self.act = nn.PReLU()
        self.norms = nn.ModuleList([nn.BatchNorm1d(2), nn.InstanceNorm1d(2), nn.LayerNorm(2)])
        self.norms.append(self.bn)


def digest(module: nn.Module) -> str:
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    modes = "".join(str(int(item.training)) for item in module.modules())
    return hashlib.sha256(buffer.getvalue()).hexdigest() + modes


def test_layers_modes_and_tensors_are_those_of_the_module() -> None:
    torch.manual_seed(0)
    net = Net().eval()
    nn.init.normal_(net.bn.weight)
    net.norms[0].train()
    before = digest(net)
    subject = FORMAT.read(ModuleTarget(module=net))
    by_path = {norm.path: norm for norm in subject.norms}
    assert list(by_path) == ["bn", "norms.0", "norms.1"]
    assert (by_path["bn"].mode, by_path["norms.0"].mode) == (Mode.EVAL, Mode.TRAIN)
    assert (by_path["bn"].uses_batch_statistics, by_path["norms.0"].uses_batch_statistics) == (False, True)
    assert by_path["bn"].eps == 1e-3
    assert by_path["bn"].aliases == ("norms.3",)
    assert by_path["bn"].preceding == "conv"
    assert by_path["norms.1"].kind is NormKind.INSTANCE_NORM
    assert by_path["bn"].weight is not None
    assert by_path["bn"].weight.load() == net.bn.weight.detach().numpy().tobytes()
    assert digest(net) == before


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_tensors_of_every_precision_are_exact(dtype: torch.dtype) -> None:
    bn = nn.BatchNorm1d(3).to(dtype)
    nn.init.normal_(bn.running_mean)  # type: ignore[arg-type]
    (norm,) = FORMAT.read(ModuleTarget(module=bn)).norms
    assert norm.running_mean is not None
    assert list(norm.running_mean.values()) == bn.running_mean.double().tolist()  # type: ignore[union-attr]


def test_a_module_on_the_meta_device_has_no_values() -> None:
    with torch.device("meta"):
        net = Net()
    subject = FORMAT.read(ModuleTarget(module=net))
    assert Facts.VALUES not in subject.facts
    assert Facts.MODES in subject.facts


def test_a_layer_in_a_plain_list_is_not_registered() -> None:
    net = Net()
    net.hidden = [nn.BatchNorm1d(2), net.bn]  # type: ignore[assignment]
    subject = FORMAT.read(ModuleTarget(module=net))
    assert [norm.path for norm in subject.norms if not norm.registered] == ["hidden.0"]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "factory_under_test.py").write_text(
        "import torch.nn as nn\n"
        "print('importing')\n"
        "def build():\n    return nn.Sequential(nn.BatchNorm1d(2)).eval()\n"
        "def fails():\n    raise RuntimeError('no GPU')\n"
        "def quits():\n    raise SystemExit(2)\n"
        "def wrong():\n    return 42\n"
        "class Holder:\n    model = nn.BatchNorm1d(3)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    sys.modules.pop("factory_under_test", None)
    return "factory_under_test"


def test_a_factory_is_imported_from_the_working_directory(package: str, capsys: pytest.CaptureFixture[str]) -> None:
    path_before = list(sys.path)
    (norm,) = FORMAT.read(FactoryTarget(spec=f"{package}:build")).norms
    assert (norm.path, norm.mode) == ("0", Mode.EVAL)
    assert capsys.readouterr().out == ""
    assert sys.path == path_before


def test_a_factory_may_be_an_attribute_that_is_a_module(package: str) -> None:
    (norm,) = FORMAT.read(FactoryTarget(spec=f"{package}:Holder.model")).norms
    assert norm.num_features == 3


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no_such_package:build", "ModuleNotFoundError"),
        ("factory_under_test:absent", "AttributeError"),
        ("factory_under_test:fails", "RuntimeError: no GPU"),
        ("factory_under_test:quits", "SystemExit"),
        ("factory_under_test:wrong", "gives a builtins.int"),
    ],
)
def test_a_factory_that_gives_no_model_is_one_clear_error(package: str, spec: str, message: str) -> None:
    with pytest.raises(FactoryError, match=message):
        FORMAT.read(FactoryTarget(spec=spec))


def read_weights(path: Path) -> Subject:
    with read_subject(path) as subject:
        return subject


def weights_of(tensors: dict[str, torch.Tensor]) -> Subject:
    refs = tuple(
        TensorRef(name=name, dtype="float32", shape=tuple(value.shape), load=value.float().numpy().tobytes)
        for name, value in tensors.items()
    )
    model = Model(route="state_dict", form=Form.STATE_DICT, tensors=refs)
    return Subject(source="w.pt", format="torch-checkpoint", facts=Facts.VALUES, models=(model,), norms=())


def test_weights_take_the_place_of_the_modules_own() -> None:
    net, trained = Net(), Net()
    nn.init.normal_(trained.bn.running_mean)  # type: ignore[arg-type]
    subject = FORMAT.read(ModuleTarget(module=net, weights=weights_of(trained.state_dict())))
    assert subject.loading is not None
    assert (subject.loading.missing, subject.loading.unexpected, subject.loading.mismatched) == ((), (), ())
    assert subject.norms[0].running_mean is not None
    assert subject.norms[0].running_mean.load() == trained.bn.running_mean.numpy().tobytes()  # type: ignore[union-attr]
    assert net.bn.running_mean.abs().sum() == 0  # type: ignore[union-attr]


def test_keys_that_do_not_fit_are_named() -> None:
    state = Net().state_dict()
    del state["norms.0.running_var"]
    state["head.weight"] = torch.zeros(1)
    state["conv.bias"] = torch.zeros(9)
    loading = FORMAT.read(ModuleTarget(module=Net(), weights=weights_of(state))).loading
    assert loading is not None
    assert loading.missing == ("norms.0.running_var",)
    assert loading.unexpected == ("head.weight",)
    assert [(item.reference, item.difference) for item in loading.mismatched] == [
        ("conv.bias", "shape [9], the model has [4]")
    ]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "whatever."])
def test_a_prefix_is_stripped_and_said(prefix: str) -> None:
    state = {prefix + name: value for name, value in Net().state_dict().items()}
    loading = FORMAT.read(ModuleTarget(module=Net(), weights=weights_of(state))).loading
    assert loading is not None
    assert loading.target_prefix == prefix
    assert loading.missing == ()


def test_weights_of_another_network_match_nothing() -> None:
    loading = FORMAT.read(ModuleTarget(module=Net(), weights=weights_of({"x.y": torch.zeros(3)}))).loading
    assert loading is not None
    assert loading.matched == ()
    assert loading.target_prefix == ""


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()


def test_half_precision_loads_but_costs_statistics(tmp_path: Path) -> None:
    path = tmp_path / "half.pt"
    torch.save(small().half().state_dict(), path)
    report = check(small(), weights=path)
    assert [(finding.code, finding.severity.value) for finding in report.findings] == [("BN223", "warning")]
    assert [location.tensor for location in report.findings[0].locations] == ["running_mean", "running_var"]
    assert check(small().half(), weights=path).findings == ()
    torch.save({f"module.{name}": value for name, value in small().half().state_dict().items()}, path)
    severities = [(finding.code, finding.severity.value) for finding in check(small(), weights=path).findings]
    assert severities == [("BN223", "warning"), ("BN203", "note")]


def test_integers_in_place_of_weights_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "int8.pt"
    torch.save({**small().state_dict(), "0.weight": torch.zeros(4, 3, 3, 3, dtype=torch.int8)}, path)
    (finding,) = check(small(), weights=path).findings
    assert (finding.code, finding.severity.value) == ("BN223", "error")
    assert "0.weight: dtype int8, the model has float32" in finding.message


def test_a_file_that_stores_shared_tensors_once_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(Net(), str(path))
    loading = FORMAT.read(ModuleTarget(module=Net(), weights=read_weights(path))).loading
    assert loading is not None
    assert (loading.missing, loading.unexpected) == ((), ())


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_not_judged_by_its_modules(tmp_path: Path) -> None:
    traced = torch.jit.trace(small().train(), torch.zeros(2, 3, 4, 4), check_trace=False).eval()
    with pytest.raises(UnsupportedFormatError, match=r"torch\.jit\.save"):
        check(traced)
    report = check(nn.ModuleDict({"body": traced, "head": small()}).eval())
    assert report.findings == ()
    assert [norm.path for norm in report.norms] == ["head.1"]
    assert len(report.unread) == 1
    assert report.unread[0].startswith("body: a TorchScript module inside")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("unflatten", [True, False])
def test_the_module_of_an_exported_program_does_not_say_its_mode(unflatten: bool) -> None:
    """Its flags are True in either mode; the calls in its graph decide."""
    program = torch.export.export(small(), (torch.zeros(2, 3, 4, 4),))
    report = check(torch.export.unflatten(program) if unflatten else program.module())
    assert [finding.code for finding in report.findings] == ["BN111"]
    assert [(norm.path, norm.mode, norm.uses_batch_statistics) for norm in report.norms] == [("1", Mode.UNKNOWN, None)]
