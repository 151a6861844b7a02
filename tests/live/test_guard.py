"""The guard names what uses batch statistics or moves its own, and nothing else."""

from __future__ import annotations

import copy
import pickle
import threading
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bn_audit
from bn_audit import BatchStatisticsError, BatchStatisticsWarning, UsageError, Violation

MODES = (torch.enable_grad, torch.no_grad, torch.inference_mode)


class Block(nn.Module):
    def __init__(self, norm: Callable[[int], nn.Module], inner: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, inner, 3, padding=1)
        self.norm = norm(inner)
        self.back = nn.Sequential(nn.ReLU(), nn.Conv2d(inner, 4, 1), norm(4))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.back(self.norm(self.conv(x)))


class Net(nn.Module):
    """Norm layers at the first, middle and last place, in nested containers."""

    LAYERS = (
        "stem.1",
        "blocks.0.norm",
        "blocks.0.back.2",
        "blocks.deep.inside.norm",
        "blocks.deep.inside.back.2",
        "end",
    )

    def __init__(self, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), norm(4))
        deep = nn.ModuleDict({"inside": Block(norm, 6)})
        self.blocks = nn.ModuleDict({"0": Block(norm), "deep": deep})
        self.end = norm(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks["0"](self.stem(x))
        return self.end(self.blocks["deep"]["inside"](x)).mean(dim=(2, 3))


def images(rows: int = 4) -> Tensor:
    return torch.randn(rows, 3, 8, 8, generator=torch.Generator().manual_seed(rows))


def violations(model: nn.Module, *inputs: Tensor) -> list[Violation]:
    """Return what the guard finds in one pass, in each mode of autograd the same."""
    found: list[list[Violation]] = []
    for mode in MODES:
        fresh = copy.deepcopy(model)
        seen: list[Violation] = []
        with mode(), bn_audit.guard(fresh, on_violation=seen.append):
            fresh(*(inputs or (images(),)))
        found.append(seen)
    assert all(item == found[0] for item in found)
    return found[0]


def paths(model: nn.Module, *inputs: Tensor) -> list[str | None]:
    return [violation.path for violation in violations(model, *inputs)]


class FunctionalNorm(nn.Module):
    """Batch statistics whatever the mode, by a functional call."""

    def __init__(self, channels: int, call: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x) if self.call is not None else F.batch_norm(x, None, None, training=True)


class MovingNorm(nn.Module):
    """Moves its statistics at every call, and normalises with them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.running_mean.lerp_(x.mean(dim=(0, 2, 3)), 0.1)
            self.running_var.lerp_(x.var(dim=(0, 2, 3)), 0.1)
        return F.batch_norm(x, self.running_mean, self.running_var)


class ReplacingNorm(MovingNorm):
    """Puts new tensors in the place of its statistics."""

    def forward(self, x: Tensor) -> Tensor:
        self.running_mean = 0.9 * self.running_mean + 0.1 * x.detach().mean(dim=(0, 2, 3))
        return F.batch_norm(x, self.running_mean, self.running_var)


class FrozenNorm(MovingNorm):
    """FrozenBatchNorm2d of the detection libraries: plain arithmetic over fixed statistics."""

    def forward(self, x: Tensor) -> Tensor:
        scale = self.running_var.add(1e-5).rsqrt()
        return (x - self.running_mean[:, None, None]) * scale[:, None, None]


class StandardisedConv(nn.Conv2d):
    """Weight standardisation as in timm ``layers/std_conv.py``."""

    def forward(self, x: Tensor) -> Tensor:
        weight = F.batch_norm(
            self.weight.reshape(1, self.out_channels, -1), None, None, training=True, momentum=0.0, eps=1e-6
        )
        return F.conv2d(x, weight.reshape_as(self.weight), self.bias)


class ScaledStandardisedConv(nn.Conv2d):
    """The same over a weight that was scaled first, so that it shares no memory with the parameter."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__(inputs, outputs, size)
        self.gain = nn.Parameter(torch.ones(outputs, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight * 0.7).reshape(1, self.out_channels, -1)
        weight = F.batch_norm(weight, None, None, weight=self.gain.view(-1), training=True, momentum=0.0)
        return F.conv2d(x, weight.reshape_as(self.weight), self.bias)


class AdaptiveInstanceNorm(nn.Module):
    """MUNIT ``AdaptiveInstanceNorm2d``: samples folded into the channels of a batch norm in training form."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        rows, channels = x.shape[:2]
        folded = x.contiguous().view(1, rows * channels, *x.shape[2:])
        out = F.batch_norm(folded, self.running_mean.repeat(rows), self.running_var.repeat(rows), None, None, True, 0.1)
        return out.view_as(x)


class LayerNormByBatchNorm(nn.Module):
    """Each sample is one channel of a batch of one, as ATen once wrote its LayerNorm."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x.reshape(1, x.shape[0], -1), None, None, training=True).view_as(x)


class GroupNormByBatchNorm(LayerNormByBatchNorm):
    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x.reshape(1, x.shape[0] * 2, -1), None, None, training=True).view_as(x)


class FlattenedBatchNorm(LayerNormByBatchNorm):
    """One row as well, and every channel over all samples."""

    def forward(self, x: Tensor) -> Tensor:
        rows, channels, height, width = x.shape
        flat = x.transpose(0, 1).reshape(1, channels, -1)
        out = F.batch_norm(flat, None, None, training=True)
        return out.view(channels, rows, height, width).transpose(0, 1)


def layer_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(1, channels)


@pytest.mark.parametrize("layer", Net.LAYERS)
def test_one_layer_left_in_training_mode_is_named(layer: str) -> None:
    model = Net().eval()
    model.get_submodule(layer).train()
    assert paths(model) == [layer]


def test_every_layer_in_training_mode_is_named_once() -> None:
    assert paths(Net().train()) == list(Net.LAYERS)
    assert paths(Net().eval()) == []


@pytest.mark.parametrize(
    "norm",
    [
        pytest.param(lambda n: nn.BatchNorm2d(n, track_running_stats=False), id="no-statistics"),
        pytest.param(lambda n: nn.BatchNorm2d(n, affine=False, track_running_stats=False), id="nothing-at-all"),
        pytest.param(FunctionalNorm, id="functional"),
        pytest.param(MovingNorm, id="moves"),
        pytest.param(ReplacingNorm, id="replaces"),
    ],
)
def test_eval_does_not_help_these(norm: Callable[[int], nn.Module]) -> None:
    assert sorted(map(str, paths(Net(norm).eval()))) == sorted(Net.LAYERS)


@pytest.mark.parametrize(
    "norm",
    [
        pytest.param(lambda n: nn.BatchNorm2d(n, momentum=0.0), id="momentum-0"),
        pytest.param(lambda n: nn.BatchNorm2d(n, momentum=None), id="cumulative"),
        pytest.param(nn.SyncBatchNorm, id="sync"),
        pytest.param(lambda n: nn.InstanceNorm2d(n, track_running_stats=True), id="tracked-instance-norm"),
    ],
)
def test_training_mode_of_other_kinds(norm: Callable[[int], nn.Module]) -> None:
    assert paths(Net(norm).train()) == list(Net.LAYERS)
    assert paths(Net(norm).eval()) == []


@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "norm",
    [nn.InstanceNorm2d, layer_norm, FrozenNorm, AdaptiveInstanceNorm, lambda n: nn.LocalResponseNorm(2)],
    ids=["instance-norm", "group-norm", "frozen", "adaptive-instance-norm", "local-response"],
)
def test_legitimate_layers_are_silent(norm: Callable[[int], nn.Module], training: bool, rows: int) -> None:
    assert paths(Net(norm).train(training), images(rows)) == []


@pytest.mark.parametrize("norm", [LayerNormByBatchNorm, GroupNormByBatchNorm])
def test_norms_of_single_samples_by_batch_norm_are_silent(norm: Callable[[int], nn.Module]) -> None:
    assert paths(Net(norm), images(4)) == []


@pytest.mark.parametrize("rows", [2, 4])
def test_a_batch_flattened_to_one_row_is_no_single_sample(rows: int) -> None:
    assert paths(Net(FlattenedBatchNorm), images(rows)) == list(Net.LAYERS)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("conv", [StandardisedConv, ScaledStandardisedConv])
def test_weight_standardisation_is_silent(conv: type[nn.Conv2d], rows: int) -> None:
    model = nn.Sequential(conv(3, 5, 3), nn.ReLU(), conv(5, 4, 1), nn.LayerNorm([4, 6, 6]))
    assert paths(model, images(rows)) == []


def test_the_same_call_on_activations_of_a_batch_of_one_is_not() -> None:
    assert paths(nn.Sequential(nn.Conv2d(3, 5, 3), FunctionalNorm(5)), images(1)) == ["1"]


@pytest.mark.parametrize(
    "call",
    [
        lambda x: torch.batch_norm(x, None, None, None, None, True, 0.1, 1e-5, False),
        lambda x: torch.batch_norm(
            x, weight=None, bias=None, running_mean=None, running_var=None, training=True, momentum=0.1, eps=1e-5,
            cudnn_enabled=False,
        ),
        lambda x: torch.native_batch_norm(x, None, None, None, None, True, 0.1, 1e-5)[0],
        lambda x: nn.functional.batch_norm(input=x, running_mean=None, running_var=None, training=True),
    ],
    ids=["torch", "by-keyword", "native", "functional"],
)  # fmt: skip
def test_functional_calls_name_the_module_and_the_place(call: Callable[[Tensor], Tensor]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(FunctionalNorm(4, call)))
    (found,) = violations(model)
    assert found.path == "1.0"
    assert "test_guard.py:" in found.what
    assert "/" not in found.what


def test_functional_call_through_an_early_import() -> None:
    from torch.nn.functional import batch_norm

    assert paths(nn.Sequential(FunctionalNorm(3, lambda x: batch_norm(x, None, None, training=True)))) == ["0"]


def test_functional_call_in_evaluation_form_is_silent() -> None:
    def call(x: Tensor) -> Tensor:
        return F.batch_norm(x, torch.zeros(3), torch.ones(3), training=False)

    assert paths(FunctionalNorm(3, call)) == []


def test_a_call_outside_of_any_module_is_reported_with_its_place() -> None:
    model = nn.Identity()
    with (
        pytest.raises(BatchStatisticsError, match=r"outside of any module .*at test_guard\.py:\d+ in") as caught,
        bn_audit.guard(model),
    ):
        F.batch_norm(model(images()), None, None, training=True)
    assert caught.value.layers == ()


def test_a_layer_in_a_plain_list_is_found_at_the_module_that_calls_it() -> None:
    class Hiding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norms = [nn.BatchNorm2d(3)]

        def forward(self, x: Tensor) -> Tensor:
            return self.norms[0](x)

    (found,) = violations(nn.Sequential(Hiding()).eval())
    assert (found.path, found.type_name) == ("0", "BatchNorm2d")
    assert "not registered" in found.what


def test_functional_calls_of_a_model_find_their_layer() -> None:
    """Its tensors are not those of the module here, and under vmap they have no memory of their own."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    found: list[Violation] = []
    with bn_audit.guard(model, on_violation=found.append):
        torch.func.functional_call(model, tensors, (images(),))
    assert [item.path for item in found] == ["1"]
    model[1] = nn.BatchNorm2d(4, track_running_stats=False)
    with bn_audit.guard(model, on_violation=found.append):
        torch.func.vmap(model)(images().repeat(2, 1, 1, 1, 1))
    assert [item.path for item in found] == ["1", "1"]


def test_a_thousand_blocks_leave_nothing_behind() -> None:
    import torch.jit._builtins as builtins

    model = nn.Identity()
    with bn_audit.guard(model):
        known = len(builtins._get_builtin_table())
    for _ in range(1000):
        with bn_audit.guard(model):
            pass
    assert len(builtins._get_builtin_table()) == known


def test_a_shared_layer_has_its_first_path() -> None:
    shared = nn.BatchNorm2d(3)
    assert paths(nn.Sequential(shared, nn.ReLU(), nn.Sequential(shared))) == ["0"]


def test_sync_batch_norm_across_processes_is_seen_at_its_first_kernel() -> None:
    """Its statistics come from ``torch.batch_norm_stats``, which has no CPU kernel: the guard comes before it."""

    class Synchronised(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.batch_norm_stats(x, 1e-5)[0]

    with (
        pytest.raises(BatchStatisticsError, match=r"0 .Synchronised.*batch_norm_stats"),
        bn_audit.guard(model := nn.Sequential(Synchronised())),
    ):
        model(images())


def test_other_models_in_the_block_are_none_of_its_business() -> None:
    guarded, other = Net().eval(), Net().train()
    with bn_audit.guard(guarded):
        guarded(images())
        other(images())
    assert int(other.end.num_batches_tracked) == 1


def test_statistics_that_stand_still_may_be_anything() -> None:
    model = Net().eval()
    model.end.running_mean.fill_(float("nan"))
    model.end.running_var.fill_(-1.0)
    model.end.num_batches_tracked = None
    assert paths(model) == []


def test_statistics_moved_by_hand_are_found_bit_by_bit() -> None:
    model = Net().double().eval()
    with (
        pytest.raises(BatchStatisticsError, match=r"end \(BatchNorm2d\) moved running_var") as caught,
        bn_audit.guard(model),
    ):
        model.end.running_var[2].nextafter_(torch.tensor(2.0, dtype=torch.float64))
    assert caught.value.layers == ("end",)


def test_the_version_counter_would_not_do() -> None:
    """The fact behind comparing values: batch norm moves its statistics without counting up."""
    norm = nn.BatchNorm2d(3)
    before, version = norm.running_mean.clone(), norm.running_mean._version
    norm(images())
    assert not torch.equal(before, norm.running_mean)
    assert norm.running_mean._version == version


def test_it_stops_before_the_statistics_move() -> None:
    model = Net().train()
    with (
        pytest.raises(BatchStatisticsError, match=r"^stem\.1 \(BatchNorm2d\) normalises.*: call model\.eval\(\)"),
        bn_audit.guard(model),
    ):
        model(images())
    assert torch.equal(model.stem[1].running_mean, torch.zeros(4))


def test_warnings_come_once_for_each_layer() -> None:
    model = Net().train()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with bn_audit.guard(model, on_violation="warn"):
            model(images())
            model(images())
    assert [item.category for item in caught] == [BatchStatisticsWarning] * len(Net.LAYERS)
    assert [str(item.message).split(" ")[0] for item in caught] == list(Net.LAYERS)
    assert int(model.end.num_batches_tracked) == 2


def test_nested_blocks_each_do_their_part() -> None:
    outer, inner = [], []
    model = Net().eval()
    model.end.train()
    original = torch.batch_norm
    with bn_audit.guard(model, on_violation=outer.append):
        with bn_audit.guard(model, on_violation=inner.append):
            model(images())
        assert torch.batch_norm is not original
    assert torch.batch_norm is original
    assert [item.path for item in outer] == [item.path for item in inner] == ["end"]


def test_a_guard_can_be_used_again_but_not_inside_itself() -> None:
    model = Net().eval()
    again = bn_audit.guard(model)
    for _ in range(2):
        with again:
            model(images())
    with again, pytest.raises(UsageError, match="open already"), again:
        pass


@pytest.mark.parametrize("mode", ["raise", "warn"])
def test_everything_is_put_back_after_an_exception(mode: str) -> None:
    names = [name for name in dir(torch) if "batch_norm" in name or name == "instance_norm"]
    before = {name: getattr(torch, name) for name in names}
    model = Net().eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    attributes = {name: dict(vars(module)) for name, module in model.named_modules()}
    with pytest.raises(KeyError), bn_audit.guard(model, on_violation=mode):  # type: ignore[arg-type]
        model(images())
        raise KeyError("of the user")
    assert {name: getattr(torch, name) for name in names} == before
    assert attributes == {name: dict(vars(module)) for name, module in model.named_modules()}
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


def test_an_exception_of_the_block_is_kept_and_told_what_moved() -> None:
    model = Net(MovingNorm).eval()
    with pytest.raises(KeyError) as caught, bn_audit.guard(model):
        model(images())
        raise KeyError("of the user")
    assert any("stem.1 (MovingNorm) moved running_mean" in note for note in caught.value.__notes__)


def test_another_thread_is_not_interrupted_and_reported_at_the_end() -> None:
    model = Net().eval()
    model.end.train()
    finished: list[Tensor] = []
    with pytest.raises(BatchStatisticsError, match=r"^end ") as caught, bn_audit.guard(model):
        worker = threading.Thread(target=lambda: finished.append(model(images())))
        worker.start()
        worker.join()
    assert caught.value.layers == ("end",)
    assert len(finished) == 1


def test_blocks_of_several_threads_do_not_disturb_each_other() -> None:
    original = torch.batch_norm
    failures: list[str] = []

    def work(train: bool) -> None:
        model = Net().train(train)
        for _ in range(20):
            try:
                with bn_audit.guard(model):
                    model(images(2))
            except BatchStatisticsError:
                failures.append("train" if train else "eval")

    threads = [threading.Thread(target=work, args=(bool(index % 2),)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == ["train"] * 40
    assert torch.batch_norm is original


def test_another_patch_in_the_block_survives_it() -> None:
    """A tool that wraps the function inside the block and leaves it there still calls through."""
    original = torch.batch_norm
    calls: list[int] = []
    try:
        with bn_audit.guard(Net().eval()):
            guarded = torch.batch_norm

            def theirs(*args: object) -> object:
                calls.append(1)
                return guarded(*args)

            torch.batch_norm = theirs  # type: ignore[assignment]
        assert torch.batch_norm is theirs
        Net().train()(images())
        assert len(calls) == len(Net.LAYERS)
    finally:
        torch.batch_norm = original


def test_the_error_travels_between_processes() -> None:
    error = BatchStatisticsError("message", layers=("a", "b"))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.layers) == ("message", ("a", "b"))


def test_a_lazy_layer_that_takes_its_shape_in_the_block_is_found() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.LazyBatchNorm2d()).eval()
    with pytest.raises(BatchStatisticsError, match=r"^1 "), bn_audit.guard(model):
        model(images())


def test_lazy_layers_beside_a_violation() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.LazyConv2d(4, 1), nn.LazyBatchNorm2d())
    found: list[Violation] = []
    with bn_audit.guard(model, on_violation=found.append):
        model(images())
    assert [item.path for item in found] == ["0", "2"]


def test_weight_standardisation_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its calls are looked at each time, so what that takes must not grow with the model."""
    from bn_audit.live import layers

    looked: list[int] = []
    address = layers.address
    monkeypatch.setattr(layers, "address", lambda tensor: looked.append(1) or address(tensor))
    model = nn.Sequential(StandardisedConv(3, 5, 3), *[StandardisedConv(5, 5, 1) for _ in range(9)])
    with bn_audit.guard(model):
        for _ in range(3):
            model(images())
    assert len(looked) == len(list(model.parameters()))


@pytest.mark.parametrize("model", [torch.relu, "model.pt", None, nn.BatchNorm2d])
def test_what_is_no_module_is_refused(model: object) -> None:
    with pytest.raises(UsageError, match=r"no torch\.nn\.Module"):
        bn_audit.guard(model)  # type: ignore[arg-type]


def test_an_unknown_reaction_is_refused() -> None:
    with pytest.raises(UsageError, match="'ignore'"):
        bn_audit.guard(nn.Identity(), on_violation="ignore")  # type: ignore[arg-type]
