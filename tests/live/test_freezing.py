"""Batch norms that stay frozen, and how they come back."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from zoo.catalogue import ZOO, Mode, is_norm, network
from zoo.forms import quietly

import bn_audit
from bn_audit import ArtifactError, UsageError


class Net(nn.Module):
    def __init__(self, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), norm(4), nn.Sequential(nn.Conv2d(4, 4, 1), norm(4)))
        self.head = nn.Sequential(nn.Conv2d(4, 5, 1), norm(5), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


LAYERS = ("backbone.1", "backbone.2.1", "head.1")


def images() -> Tensor:
    return torch.randn(4, 3, 6, 6)


def modes(model: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in model.named_modules()}


def training(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if is_norm(module) and module.training]


def statistics(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.named_buffers()}


def stood_still(before: dict[str, Tensor], model: nn.Module) -> bool:
    return all(torch.equal(value, before[name]) for name, value in model.named_buffers())


@pytest.mark.parametrize(
    "wake",
    [
        lambda model: model.train(),
        lambda model: model.backbone.train(),
        lambda model: model.backbone[2][1].train(),
        lambda model: model.eval().train(True),
        lambda model: model.apply(lambda module: module.train()),
        lambda model: [module.train() for module in model.modules()],
        lambda model: nn.Module.train(model),
    ],
)
def test_frozen_layers_stay_in_evaluation(wake: Callable[[Net], object]) -> None:
    model = Net()
    handle = bn_audit.freeze_bn(model)
    assert handle.paths == LAYERS
    before = statistics(model)
    wake(model)
    model(images())
    assert training(model) == []
    assert stood_still(before, model)


def test_everything_else_follows_train_and_eval() -> None:
    model = Net()
    bn_audit.freeze_bn(model, ["backbone.*"])
    assert modes(model.train()) == {name: name not in LAYERS[:2] for name in modes(model)}
    assert not any(modes(model.eval()).values())
    assert training(model.train()) == ["head.1"]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["backbone"], LAYERS[:2]),
        (["backbone.*"], LAYERS[:2]),
        (["*.1"], LAYERS),
        (["head.1", "backbone.1"], (LAYERS[0], LAYERS[2])),
        (["backbone.2"], LAYERS[1:2]),
        (["b*.[12]"], LAYERS[:2]),
        ([], ()),
        (None, LAYERS),
    ],
)
def test_patterns_name_paths_and_what_is_below(patterns: list[str] | None, expected: tuple[str, ...]) -> None:
    assert bn_audit.freeze_bn(Net(), patterns).paths == expected


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("backbon.*", r"'backbon\.\*' matches no batch norm: did you mean backbone"),
        ("head.0", r"'head\.0' matches no batch norm: did you mean head"),
        ("zzz", r"'zzz' matches no batch norm: they are backbone\.1"),
    ],
)
def test_a_pattern_that_freezes_nothing_is_an_error(pattern: str, message: str) -> None:
    model = Net()
    with pytest.raises(UsageError, match=message):
        bn_audit.freeze_bn(model, ["head", pattern])
    assert training(model) == list(LAYERS)


def test_a_pattern_must_stand_in_a_list() -> None:
    with pytest.raises(UsageError, match="give a list"):
        bn_audit.freeze_bn(Net(), "backbone")


def test_former_modes_come_back_exactly() -> None:
    model = Net()
    model.head[1].eval()
    model.backbone.eval()
    model.backbone[2][1].train()
    before = modes(model)
    bn_audit.freeze_bn(model).remove()
    assert modes(model) == before


def test_a_mode_asked_for_meanwhile_is_the_one_that_comes_back() -> None:
    model = Net().train()
    handle = bn_audit.freeze_bn(model)
    model.eval()
    handle.remove()
    assert training(model) == []
    handle = bn_audit.freeze_bn(model)
    model.train()
    handle.remove()
    assert training(model) == list(LAYERS)


def test_nothing_is_left_behind() -> None:
    model = Net()
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    handle = bn_audit.freeze_bn(model, affine=True)
    handle.remove()
    handle.remove()
    assert {name: dict(vars(module)) for name, module in model.named_modules()} == before
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_freezing_twice_is_freezing_once() -> None:
    model = Net()
    first = bn_audit.freeze_bn(model, ["backbone"])
    second = bn_audit.freeze_bn(model)
    assert second.paths == LAYERS
    model.train()
    second.remove()
    assert training(model) == ["head.1"]
    first.remove()
    assert training(model) == list(LAYERS)


def test_as_a_block() -> None:
    model = Net()
    with bn_audit.freeze_bn(model) as handle:
        model.train()
        assert training(model) == []
    assert handle.paths == LAYERS
    assert training(model) == list(LAYERS)


def test_unfreeze_needs_no_handle() -> None:
    model = Net()
    bn_audit.freeze_bn(model)
    assert bn_audit.unfreeze_bn(model, ["head"]) == ("head.1",)
    assert training(model) == ["head.1"]
    assert bn_audit.unfreeze_bn(model) == LAYERS[:2]
    assert bn_audit.unfreeze_bn(model) == ()
    assert training(model) == list(LAYERS)


def test_gradients_are_stopped_on_request_and_given_back() -> None:
    model = Net()
    model.backbone[1].bias.requires_grad_(False)
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    plain = bn_audit.freeze_bn(model, ["backbone"])
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == before
    stopping = bn_audit.freeze_bn(model, ["backbone"], affine=True)
    stopped = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert stopped == {f"{layer}.{name}" for layer in LAYERS[:2] for name in ("weight", "bias")}
    stopping.remove()
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == before
    assert training(model.train()) == ["head.1"]
    plain.remove()
    assert training(model) == list(LAYERS)


@pytest.mark.parametrize("name", sorted(name for name, item in ZOO.items() if item.sample))
def test_every_kind_of_the_zoo_stands_still(name: str) -> None:
    model = network(name, Mode.TRAIN)
    unfreezable = [key for key, item in model.named_modules() if is_norm(item) and _stores_nothing(item)]
    try:
        bn_audit.freeze_bn(model)
    except UsageError as error:
        assert any(path in str(error) for path in unfreezable), error
        return
    except ArtifactError as error:
        assert "TorchScript" in str(error)
        return
    norms = {id(module) for module in model.modules() if is_norm(module) and not _is_instance_norm(module)}
    model.train()
    before = {id(module): statistics(module) for module in model.modules() if id(module) in norms}
    with torch.no_grad():
        model(*ZOO[name].inputs())
    assert all(stood_still(before[id(module)], module) for module in model.modules() if id(module) in norms)
    assert not any(module.training for module in model.modules() if id(module) in norms)


def _stores_nothing(module: nn.Module) -> bool:
    return getattr(module, "running_mean", None) is None


def _is_instance_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.instancenorm._InstanceNorm)


def test_a_lazy_layer_is_frozen_before_and_after_it_has_a_shape() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.LazyBatchNorm2d())
    bn_audit.freeze_bn(model)
    model.train()(images())
    assert type(model[1]) is nn.BatchNorm2d
    model.train()(images())
    assert torch.equal(model[1].running_mean, torch.zeros(4))
    assert bn_audit.unfreeze_bn(model) == ("1",)
    model(images())
    assert not torch.equal(model[1].running_mean, torch.zeros(4))


class Stubborn(nn.BatchNorm2d):
    """Overrides train() without calling up."""

    def train(self, mode: bool = True) -> Stubborn:
        self.training = mode
        return self


class Twice(nn.BatchNorm2d):
    """Overrides train() and calls up, through the class that is frozen as well."""

    def train(self, mode: bool = True) -> Twice:
        super().train(mode)
        return self


@pytest.mark.parametrize("norm", [Stubborn, Twice])
def test_overridden_train(norm: type[nn.BatchNorm2d]) -> None:
    model = nn.Sequential(norm(3), nn.BatchNorm2d(3))
    handle = bn_audit.freeze_bn(model)
    model.eval()
    model.train()
    assert training(model) == []
    handle.remove()
    assert training(model) == ["0", "1"]


def test_layers_out_of_reach_of_eval_are_frozen_too() -> None:
    model = nn.Identity()
    model.hidden = [nn.BatchNorm2d(3), {"inner": nn.BatchNorm2d(3)}]
    handle = bn_audit.freeze_bn(model)
    assert handle.paths == ("hidden.0", "hidden.1.inner")
    assert not model.hidden[0].training
    assert not model.hidden[1]["inner"].training
    handle.remove()
    assert model.hidden[0].training


def test_a_layer_without_statistics_cannot_be_frozen() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False))
    with pytest.raises(UsageError, match=r"freeze_bn: 1: no running statistics .*leave them out"):
        bn_audit.freeze_bn(model)
    assert model[0].training
    assert bn_audit.freeze_bn(model, ["0"]).paths == ("0",)


def test_a_torchscript_part_cannot_be_frozen() -> None:
    with quietly():
        part = torch.jit.script(nn.Sequential(nn.BatchNorm2d(3)))
    model = nn.ModuleDict({"new": nn.BatchNorm2d(3), "old": part})
    with pytest.raises(UsageError, match="old: a TorchScript module"):
        bn_audit.freeze_bn(model)
    assert bn_audit.freeze_bn(model, ["new"]).paths == ("new",)
    with pytest.raises(ArtifactError, match="TorchScript"):
        bn_audit.freeze_bn(part)


def test_deep_copies_are_frozen_on_their_own() -> None:
    model = Net()
    handle = bn_audit.freeze_bn(model, affine=True)
    twin = copy.deepcopy(model)
    handle.remove()
    assert training(model.train()) == list(LAYERS)
    assert training(twin.train()) == []
    assert bn_audit.unfreeze_bn(twin) == LAYERS
    assert training(twin) == list(LAYERS)
    assert all(parameter.requires_grad for parameter in twin.parameters())


def test_state_dicts_and_classes_are_those_of_any_model() -> None:
    plain, model = Net(), Net()
    bn_audit.freeze_bn(model, affine=True)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [type(module) for module in model.modules()] == [type(module) for module in plain.modules()]
    assert repr(model) == repr(plain)
    plain.load_state_dict(model.state_dict())


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_saved_model_names_nothing_of_this_package(protocol: int) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    plain = pickle.dumps(model, protocol=protocol)
    bn_audit.freeze_bn(model, affine=True)
    content = pickle.dumps(model, protocol=protocol)
    assert b"bn_audit." not in content
    assert b"builtins" not in content.replace(plain, b"")
    again = pickle.loads(content)
    assert training(again) == []


def test_a_saved_model_loads_without_this_package(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    bn_audit.freeze_bn(model)
    torch.save(model, tmp_path / "model.pt")
    code = (
        "import sys, torch\nsys.modules['bn_audit'] = None\n"
        "model = torch.load(sys.argv[1], weights_only=False)\n"
        "assert not model[1].training and model.train()[1].training\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.pt")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_loaded_model_can_be_frozen_again_in_a_new_process(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    bn_audit.freeze_bn(model, affine=True)
    torch.save(model, tmp_path / "model.pt")
    code = (
        "import sys, torch, bn_audit\n"
        "model = torch.load(sys.argv[1], weights_only=False)\n"
        "handle = bn_audit.freeze_bn(model.train())\n"
        "assert not model.train()[1].training\n"
        "bn_audit.unfreeze_bn(model)\n"
        "assert model[1].training and model[1].weight.requires_grad\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.pt")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_weights_only_loading_takes_it_where_it_takes_the_plain_model(tmp_path: Path) -> None:
    model = nn.Sequential(nn.BatchNorm2d(4))
    bn_audit.freeze_bn(model)
    torch.save(model, tmp_path / "model.pt")
    with torch.serialization.safe_globals([nn.Sequential, nn.BatchNorm2d]):
        assert not torch.load(tmp_path / "model.pt", weights_only=True)[0].training


def test_the_saved_file_is_clean_for_the_audit(tmp_path: Path) -> None:
    model = Net()
    bn_audit.freeze_bn(model)
    torch.save(nn.Sequential(model.backbone).train(), tmp_path / "model.pt")
    report = bn_audit.check(tmp_path / "model.pt")
    assert [norm.mode.value for norm in report.norms] == ["eval", "eval"]
    assert not {"BN101", "BN102"} & {finding.code for finding in report.findings}


def test_torchscript_leaves_the_mark_out() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    bn_audit.freeze_bn(model, affine=True)
    buffer = io.BytesIO()
    with quietly():
        script = torch.jit.script(model.train())
        torch.jit.save(script, buffer)
    assert b"_bn_audit" not in buffer.getvalue()
    x = torch.randn(2, 3, 5, 5)
    assert torch.equal(script(x), nn.Sequential(*model).eval()(x))


def test_export_and_symbolic_tracing_see_evaluation() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    bn_audit.freeze_bn(model)
    model.train()
    with quietly():
        program = torch.export.export(model, (torch.randn(2, 3, 5, 5),))
    calls = [node for node in program.graph.nodes if "batch_norm" in str(node.target)]
    assert [node.args[5] for node in calls] == [False]
    assert not torch.fx.symbolic_trace(model).train().get_submodule("1").training


@pytest.fixture
def one_process() -> Iterator[None]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_distributed_wrappers() -> None:
    with quietly():
        model = nn.parallel.DistributedDataParallel(Net())
    assert bn_audit.freeze_bn(model, ["backbone.*"]).paths == ("module.backbone.1", "module.backbone.2.1")
    before = statistics(model.module.backbone)
    model.train()(images()).sum().backward()
    assert stood_still(before, model.module.backbone)
    assert training(model) == ["module.head.1"]


def test_compiled_models() -> None:
    torch._dynamo.reset()
    with quietly():
        model = torch.compile(Net(), backend="eager")
        model(images())
        bn_audit.freeze_bn(model)
        before = statistics(model)
        model.train()
        model(images())
    assert stood_still(before, model)
    torch._dynamo.reset()


def test_a_training_loop_moves_weights_and_no_statistics() -> None:
    model = Net()
    bn_audit.freeze_bn(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before, weight = statistics(model), model.backbone[1].weight.detach().clone()
    for _ in range(3):
        model.train()
        with bn_audit.guard(model):
            model(images()).square().mean().backward()
        optimizer.step()
    assert stood_still(before, model)
    assert not torch.equal(weight, model.backbone[1].weight)


@pytest.mark.parametrize("value", ["fixtures/train_mode.pt", 3, nn.BatchNorm2d])
def test_what_is_no_module_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match=r"give a torch\.nn\.Module"):
        bn_audit.freeze_bn(value)  # type: ignore[arg-type]
