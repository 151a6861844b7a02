"""What the guard sees of TorchScript, exported programs and torch.compile."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo.forms import quietly

import bn_audit
from bn_audit import BatchStatisticsError, Violation

MODES = (torch.enable_grad, torch.no_grad, torch.inference_mode)


class Functional(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, training=True)


class Net(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def images(rows: int = 3) -> Tensor:
    return torch.randn(rows, 3, 6, 6, generator=torch.Generator().manual_seed(rows))


def seen(model: nn.Module, rows: int = 3) -> list[str | None]:
    """Return the paths that the guard reports in two passes, in each mode of autograd the same."""
    results = []
    for mode in MODES:
        found: list[Violation] = []
        with mode(), bn_audit.guard(model, on_violation=found.append):
            model(images(rows))
            model(images(rows))
        results.append([item.path for item in found])
    assert results[0] == results[1] == results[2]
    return results[0]


def scripted(model: nn.Module) -> nn.Module:
    with quietly():
        return torch.jit.script(model)


def traced(model: nn.Module) -> nn.Module:
    with quietly():
        return torch.jit.trace(model, images(), check_trace=False)


def exported(model: nn.Module) -> nn.Module:
    with quietly():
        return torch.export.export(model, (images(),)).module()


BELOW = pytest.mark.parametrize("make", [scripted, traced, exported])


@BELOW
@pytest.mark.parametrize("momentum", [0.1, 0.0])
def test_training_mode_is_named(make: Callable[[nn.Module], nn.Module], momentum: float) -> None:
    assert seen(make(Net(nn.BatchNorm2d(4, momentum=momentum)).train())) == ["body.1"]


@BELOW
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(
    "norm",
    [
        lambda: nn.BatchNorm2d(4),
        lambda: nn.InstanceNorm2d(4),
        lambda: nn.InstanceNorm2d(4, affine=True),
        lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        lambda: nn.GroupNorm(2, 4),
    ],
    ids=["batch", "instance", "affine-instance", "tracked-instance", "group"],
)
def test_evaluation_is_silent(make: Callable[[nn.Module], nn.Module], norm: Callable[[], nn.Module], rows: int) -> None:
    if make is exported and rows == 1:
        pytest.skip("a program exported for three samples takes three")
    assert seen(make(Net(norm()).eval()), rows) == []


@BELOW
@pytest.mark.parametrize(
    ("norm", "layers"),
    [
        (lambda: nn.BatchNorm2d(4, track_running_stats=False), {"body.1"}),
        # Nothing of the layer reaches the operator, so the module that Python called is named.
        (lambda: nn.BatchNorm2d(4, affine=False, track_running_stats=False), {""}),
        (Functional, {""}),
    ],
    ids=["no-statistics", "nothing-at-all", "functional"],
)
def test_batch_statistics_in_evaluation_are_named(
    make: Callable[[nn.Module], nn.Module], norm: Callable[[], nn.Module], layers: set[str]
) -> None:
    assert set(seen(make(Net(norm()).eval()))) == layers


def test_the_error_keeps_its_class_although_the_interpreter_would_not() -> None:
    model = scripted(Net(nn.BatchNorm2d(4)).train())
    with (
        pytest.raises(BatchStatisticsError, match=r"body\.1 \(BatchNorm2d\).*before it is scripted"),
        bn_audit.guard(model),
    ):
        model(images())


def test_a_scripted_part_of_a_python_model_does_not_change_what_is_legitimate() -> None:
    class Standardised(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            weight = F.batch_norm((self.weight * 2).reshape(1, 4, -1), None, None, self.bias, training=True)
            return F.conv2d(x, weight.reshape_as(self.weight))

    model = nn.Sequential(Standardised(3, 4, 3), scripted(nn.Sequential(nn.BatchNorm2d(4)).eval()))
    assert seen(model) == []
    model[1].train()
    assert seen(model) == ["1.0"]


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch._dynamo.reset()
        yield
        torch._dynamo.reset()


def wrapped(model: nn.Module, backend: str) -> nn.Module:
    return torch.compile(model, backend=backend)  # type: ignore[return-value]


def in_place(model: nn.Module, backend: str) -> nn.Module:
    model.compile(backend=backend)
    return model


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize(("make", "prefix"), [(wrapped, "_orig_mod."), (in_place, "")])
@pytest.mark.parametrize("compiled_before", [True, False])
def test_compiled_modules(
    make: Callable[[nn.Module, str], nn.Module], prefix: str, backend: str, compiled_before: bool
) -> None:
    for norm, is_clean in (
        (nn.BatchNorm2d(4).eval(), True),
        (nn.InstanceNorm2d(4).train(), True),
        (nn.BatchNorm2d(4).train(), False),
        (nn.BatchNorm2d(4, momentum=0.0).train(), False),
        (nn.BatchNorm2d(4, track_running_stats=False).eval(), False),
    ):
        model = make(Net(norm), backend)
        if compiled_before:
            model(images())
        attributes = {name: dict(vars(module)) for name, module in model.named_modules()}
        found: list[Violation] = []
        with bn_audit.guard(model, on_violation=found.append):
            model(images())
        assert [item.path for item in found] == ([] if is_clean else [f"{prefix}body.1"])
        if compiled_before:
            assert attributes == {name: dict(vars(module)) for name, module in model.named_modules()}


@pytest.mark.usefixtures("fresh_compiler")
def test_a_compiled_part_that_is_not_called_is_silent() -> None:
    model = nn.ModuleDict({"used": Net(nn.BatchNorm2d(4)).eval(), "spare": wrapped(Net(nn.BatchNorm2d(4)), "eager")})
    with bn_audit.guard(model):
        model["used"](images())


def test_scripting_inside_a_block_takes_the_operators() -> None:
    """In a process of its own: TorchScript keeps what it compiled of torch.nn.functional."""
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "import torch, bn_audit\nfrom torch import nn\n"
        "model = nn.Sequential(nn.BatchNorm2d(3), nn.InstanceNorm2d(3)).eval()\n"
        "with bn_audit.guard(model):\n    script = torch.jit.script(model)\n"
        "x = torch.randn(2, 3, 4, 4)\n"
        "assert torch.equal(script(x), model(x))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_fast_path_of_a_transformer_stays() -> None:
    """It is left where anything is hooked; its operator shows that it was not."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Identity()).eval()
    x = torch.randn(2, 5, 8)
    with torch.inference_mode(), torch.profiler.profile() as plain:
        model(x)
    with torch.inference_mode(), bn_audit.guard(model), torch.profiler.profile() as guarded:
        model(x)
    names = [{event.key for event in run.key_averages()} for run in (plain, guarded)]
    assert "aten::_transformer_encoder_layer_fwd" in names[0] & names[1]
