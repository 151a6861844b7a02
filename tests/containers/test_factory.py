"""Factories built without memory: the model is the same, its values are there only where they mean something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import bn_audit
from bn_audit.containers.target import FactoryTarget
from bn_audit.errors import FactoryError, TensorUnavailableError
from bn_audit.formats.live_module import FORMAT
from bn_audit.subject.norm import Mode
from bn_audit.subject.subject import Facts, Subject

MODULE = """
import torch
from torch import nn

WEIGHTS = {weights!r}
calls = []

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4, eps=1e-3)

class Teacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.student, self.teacher = Net(), Net()
        self.teacher.load_state_dict(self.student.state_dict())

def plain():
    return Net().eval()

def momentum_encoder():
    return Teacher()

def loads():
    calls.append("loads")
    net = Net()
    net.load_state_dict(torch.load(WEIGHTS))
    return net.eval()

def loads_and_swallows():
    net = Net()
    try:
        net.load_state_dict(torch.load(WEIGHTS))
    except:
        pass
    return net

def needs_values():
    rates = [float(rate) for rate in torch.linspace(0, 0.5, 3)]
    return nn.Sequential(Net(), nn.Dropout(rates[-1]))

def needs_values_and_loads():
    torch.linspace(0, 1, 3).tolist()
    return loads()

def fails():
    raise RuntimeError("no such disk")

def wrong():
    return 42

made = plain()
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("factories")
    weights = directory / "weights.pt"
    (directory / "meta_factories.py").write_text(MODULE.format(weights=str(weights)))
    sys.path.insert(0, str(directory))
    import meta_factories

    torch.manual_seed(0)
    net = meta_factories.Net()
    nn.init.normal_(net.bn.running_mean)
    torch.save(net.state_dict(), weights)
    sys.path.remove(str(directory))
    return "meta_factories"


def read(package: str, name: str, *, without_memory: bool = True) -> Subject:
    return FORMAT.read(FactoryTarget(spec=f"{package}:{name}", without_memory=without_memory))


@pytest.mark.parametrize("name", ["plain", "momentum_encoder"])
def test_a_factory_is_built_on_the_meta_device_and_says_so(package: str, name: str) -> None:
    subject = read(package, name)
    assert subject.remarks == (f"meta_factories:{name} built on the meta device, without values",)
    assert Facts.VALUES not in subject.facts
    with pytest.raises(TensorUnavailableError, match="meta"):
        subject.models[0].tensors[0].load()


def test_the_model_is_the_one_that_building_in_memory_gives(package: str) -> None:
    for name in ("plain", "momentum_encoder", "loads", "needs_values"):
        lean, full = read(package, name), read(package, name, without_memory=False)
        assert [(ref.name, ref.dtype, ref.shape) for ref in lean.models[0].tensors] == [
            (ref.name, ref.dtype, ref.shape) for ref in full.models[0].tensors
        ]
        assert [(norm.path, norm.mode, norm.eps, norm.momentum) for norm in lean.norms] == [
            (norm.path, norm.mode, norm.eps, norm.momentum) for norm in full.norms
        ]
    assert read(package, "plain").norms[0].mode is Mode.EVAL


@pytest.mark.parametrize("name", ["loads", "loads_and_swallows", "needs_values_and_loads"])
def test_a_factory_that_loads_weights_has_their_values(package: str, name: str) -> None:
    subject = read(package, name)
    stored = torch.load(sys.modules[package].WEIGHTS)
    assert Facts.VALUES in subject.facts
    mean = subject.norms[0].running_mean
    assert mean is not None
    assert list(mean.values()) == stored["bn.running_mean"].tolist()
    assert subject.remarks[0].endswith("built in memory")


def test_initial_values_of_a_factory_that_needs_values_are_not_given_out(package: str) -> None:
    subject = read(package, "needs_values")
    (remark,) = subject.remarks
    assert remark.startswith("meta_factories:needs_values does not build on the meta device (RuntimeError: Tensor.item")
    assert Facts.VALUES not in subject.facts
    for ref in (*subject.models[0].tensors, *subject.norms[0].tensors.values()):
        with pytest.raises(TensorUnavailableError, match="initial values"):
            ref.load()


def test_an_object_that_exists_keeps_its_values(package: str) -> None:
    subject = read(package, "made")
    assert Facts.VALUES in subject.facts
    assert subject.remarks == ()


def test_without_the_request_everything_is_as_ever(package: str) -> None:
    subject = read(package, "plain", without_memory=False)
    assert Facts.VALUES in subject.facts
    assert subject.remarks == ()


@pytest.mark.parametrize(
    ("name", "message"),
    [("fails", "RuntimeError: no such disk"), ("wrong", "gives a builtins.int"), ("absent", "AttributeError")],
)
def test_a_factory_that_gives_no_model_is_one_clear_error(package: str, name: str, message: str) -> None:
    with pytest.raises(FactoryError, match=message):
        read(package, name)


def test_torch_is_left_as_it_was(package: str) -> None:
    before = nn.Module.load_state_dict
    for name in ("plain", "loads", "loads_and_swallows", "needs_values"):
        read(package, name)
    with pytest.raises(FactoryError):
        read(package, "fails")
    assert nn.Module.load_state_dict is before
    assert torch.empty(1).device.type == "cpu"


def test_a_model_of_ten_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "huge_factory.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Linear(50_000, 25_000), nn.Linear(25_000, 50_000), nn.BatchNorm1d(50_000))\n"
    )
    program = (
        "import resource\n"
        "from bn_audit.containers.target import FactoryTarget\n"
        "from bn_audit.formats.live_module import FORMAT\n"
        "subject = FORMAT.read(FactoryTarget(spec='huge_factory:make', without_memory=True))\n"
        "print(sum(4 * ref.numel for ref in subject.models[0].tensors))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    root = Path(bn_audit.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    size, peak = map(int, done.stdout.split())
    scale = 1 if sys.platform == "darwin" else 1024
    assert size > 10_000_000_000
    assert peak * scale < 1_000_000_000
