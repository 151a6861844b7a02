"""Which modules are normalisation layers, told by what they hold."""

from __future__ import annotations

import struct

import pytest

from bn_audit.errors import TensorUnavailableError
from bn_audit.recognition.description import HeldTensor, ModuleDescription
from bn_audit.recognition.modules import norm_of_module
from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import Mode, NormKind, NormLayer
from bn_audit.subject.tensor import TensorRef

SETTINGS: dict[object, object] = {
    "training": True,
    "num_features": 2,
    "eps": 1e-5,
    "momentum": 0.1,
    "affine": True,
    "track_running_stats": True,
}


def held(*values: float, requires_grad: bool | None = None, uninitialised: bool = False) -> HeldTensor:
    ref = TensorRef(
        name="t", dtype="float32", shape=(len(values),), load=lambda: struct.pack(f"<{len(values)}f", *values)
    )
    return HeldTensor(ref=ref, requires_grad=requires_grad, uninitialised=uninitialised)


def unavailable() -> HeldTensor:
    """A tensor on the meta device."""

    def load() -> bytes:
        raise TensorUnavailableError("t: lies on the meta device")

    return HeldTensor(ref=TensorRef(name="t", dtype="uint8", shape=(), load=load))


STATISTICS = {"running_mean": held(0, 0), "running_var": held(1, 1), "num_batches_tracked": held(3)}
AFFINE = {"weight": held(1, 1, requires_grad=True), "bias": held(0, 0, requires_grad=True)}


def recognise(
    type_name: str,
    *,
    attributes: dict[object, object] = SETTINGS,
    parameters: dict[str, HeldTensor | None] = AFFINE,
    buffers: dict[str, HeldTensor | None] = STATISTICS,
    bases: tuple[str, ...] = (),
) -> NormLayer | None:
    description = ModuleDescription(
        type_name=type_name, bases=bases, attributes=attributes, parameters=parameters, buffers=buffers
    )
    return norm_of_module(description, model="", path="bn")


@pytest.mark.parametrize(
    "type_name",
    [
        "torch.nn.modules.batchnorm.BatchNorm2d",
        "their_package.layers.FastBN",
        "inplace_abn.abn.InPlaceABN",
        "timm.layers.norm_act.BatchNormAct2d",
    ],
)
def test_what_holds_running_statistics_is_a_batch_norm(type_name: str) -> None:
    norm = recognise(type_name)
    assert norm is not None
    assert norm.kind is NormKind.BATCH_NORM
    assert norm.mode is Mode.TRAIN
    assert norm.uses_batch_statistics is True
    assert norm.confidence is Confidence.HIGH
    assert (norm.num_features, norm.eps, norm.momentum, norm.requires_grad) == (2, 1e-5, 0.1, True)


@pytest.mark.parametrize(
    ("training", "statistics", "expected"),
    [(True, True, True), (True, False, True), (False, True, False), (False, False, True), (None, True, None)],
)
def test_batch_statistics_follow_the_mode_and_the_buffers(
    training: bool | None, statistics: bool, expected: bool | None
) -> None:
    buffers = STATISTICS if statistics else dict.fromkeys(STATISTICS)
    norm = recognise(
        "torch.nn.modules.batchnorm.BatchNorm2d", attributes={**SETTINGS, "training": training}, buffers=buffers
    )
    assert norm is not None
    assert norm.uses_batch_statistics is expected


def test_instance_norm_is_told_by_name_and_by_base_class() -> None:
    by_name = recognise("torch.nn.modules.instancenorm.InstanceNorm2d")
    by_base = recognise("their.Norm", bases=("torch.nn.modules.instancenorm._InstanceNorm",))
    for norm in (by_name, by_base):
        assert norm is not None
        assert norm.kind is NormKind.INSTANCE_NORM
        assert norm.uses_batch_statistics is False


@pytest.mark.parametrize("class_name", ["AdaIN", "IN2d", "InstNorm", "AdaptiveInstanceNorm2d"])
def test_instance_norm_is_known_under_its_usual_names(class_name: str) -> None:
    norm = recognise(f"their.{class_name}", parameters={}, buffers=dict.fromkeys(STATISTICS))
    assert norm is not None
    assert norm.kind is NormKind.INSTANCE_NORM


def test_an_equivariant_batch_norm_of_instances_is_an_instance_norm() -> None:
    attributes = {**SETTINGS, "instance": True}
    norm = recognise("e3nn.nn._batchnorm.BatchNorm", attributes=attributes, buffers=dict.fromkeys(STATISTICS))
    assert norm is not None
    assert norm.kind is NormKind.INSTANCE_NORM


def test_a_norm_over_batch_and_instance_is_a_batch_norm() -> None:
    by_name = recognise("batchinstancenorm.BatchInstanceNorm2d")
    by_base = recognise("their.InstanceNorm", bases=("torch.nn.modules.batchnorm._BatchNorm",))
    for norm in (by_name, by_base):
        assert norm is not None
        assert norm.kind is NormKind.BATCH_NORM
        assert norm.uses_batch_statistics is True


@pytest.mark.parametrize("affine", [AFFINE, {}])
def test_an_unknown_class_without_statistics_may_be_an_instance_norm(affine: dict[str, HeldTensor | None]) -> None:
    attributes = {**SETTINGS, "affine": bool(affine), "track_running_stats": False}
    norm = recognise("their.Norm", attributes=attributes, parameters=affine, buffers=dict.fromkeys(STATISTICS))
    assert norm is not None
    assert norm.confidence is Confidence.MEDIUM
    assert norm.uses_batch_statistics is None
    batch_norm = recognise(
        "their.Norm",
        attributes=attributes,
        parameters=affine,
        buffers=dict.fromkeys(STATISTICS),
        bases=("torch.nn.modules.batchnorm._BatchNorm",),
    )
    assert batch_norm is not None
    assert batch_norm.uses_batch_statistics is True


def test_sync_batch_norm_is_told_by_name_and_by_what_it_holds() -> None:
    by_name = recognise("torch.nn.modules.batchnorm.SyncBatchNorm")
    by_attribute = recognise("their.BatchNorm", attributes={**SETTINGS, "process_group": None})
    for norm in (by_name, by_attribute):
        assert norm is not None
        assert norm.kind is NormKind.SYNC_BATCH_NORM


@pytest.mark.parametrize("training", [True, False])
def test_fixed_affine_buffers_make_a_frozen_batch_norm(training: bool) -> None:
    norm = recognise(
        "torchvision.ops.misc.FrozenBatchNorm2d",
        attributes={"training": training, "eps": 1e-5},
        parameters={},
        buffers={**AFFINE, "running_mean": held(0, 0), "running_var": held(1, 1)},
    )
    assert norm is not None
    assert norm.kind is NormKind.FROZEN_BATCH_NORM
    assert norm.uses_batch_statistics is False


def test_a_batch_norm_of_meta_learning_obeys_the_mode_although_its_affine_are_buffers() -> None:
    norm = recognise("meta_layers.MetaBatchNorm2d", parameters={}, buffers={**AFFINE, **STATISTICS})
    assert norm is not None
    assert norm.uses_batch_statistics is True


def test_a_subclass_called_frozen_ignores_the_mode() -> None:
    norm = recognise("their.FrozenBatchNorm2d")
    assert norm is not None
    assert norm.kind is NormKind.FROZEN_BATCH_NORM
    assert norm.uses_batch_statistics is False


@pytest.mark.parametrize(
    ("type_name", "buffers"),
    [
        ("layers.ccbn", {"stored_mean": held(0, 0), "stored_var": held(1, 1)}),  # BigGAN
        ("timm.layers.evo_norm.EvoNorm2dB0", {"running_var": held(1, 1)}),
        ("complexLayers.ComplexBatchNorm2d", {"running_mean": held(0, 0), "running_covar": held(1, 1, 0, 1, 1, 0)}),
        ("iterative_normalization.IterNorm", {"running_mean": held(0, 0), "running_wm": held(1, 0, 0, 1)}),
    ],
)
def test_other_statistics_make_a_batch_norm_too(type_name: str, buffers: dict[str, HeldTensor | None]) -> None:
    norm = recognise(type_name, buffers=buffers)
    assert norm is not None
    assert norm.kind is NormKind.BATCH_NORM
    assert norm.uses_batch_statistics is True


def test_the_kernel_of_a_fused_convolution_is_no_scale() -> None:
    kernel = HeldTensor(ref=TensorRef(name="weight", dtype="float32", shape=(2, 3, 1, 1), load=lambda: bytes(24)))
    parameters = {"weight": kernel, "gamma": held(1, 1), "beta": held(0, 0)}
    norm = recognise("torch.nn.intrinsic.qat.modules.conv_fused.ConvBn2d", parameters=parameters)
    assert norm is not None
    assert (norm.weight, norm.num_features) == (parameters["gamma"].ref, 2)


@pytest.mark.parametrize(
    ("type_name", "buffers", "attributes"),
    [
        ("agent.RunningMeanStd", STATISTICS, SETTINGS),
        ("agent.VecNorm", {**STATISTICS, "n": held(5)}, SETTINGS),
        ("evonorm2d.EvoNorm2D", {"running_var": held(1, 1)}, {**SETTINGS, "version": "S0"}),
    ],
)
def test_keepers_that_never_normalise_with_the_batch_are_none(
    type_name: str, buffers: dict[str, HeldTensor | None], attributes: dict[object, object]
) -> None:
    assert recognise(type_name, parameters={}, buffers=buffers, attributes=attributes) is None


def test_a_batch_norm_of_a_quantised_model_ignores_the_mode() -> None:
    norm = recognise("torch.ao.nn.quantized.modules.batchnorm.BatchNorm2d")
    assert norm is not None
    assert norm.uses_batch_statistics is False


def test_batch_renorm_keeps_a_deviation_in_place_of_a_variance() -> None:
    buffers = {"running_mean": held(0, 0), "running_std": held(1, 1), "num_batches_tracked": held(3)}
    norm = recognise("batchrenorm.BatchRenorm2d", buffers=buffers, attributes={**SETTINGS, "training": False})
    assert norm is not None
    assert norm.uses_batch_statistics is False
    assert norm.running_var is None


def test_moving_statistics_in_plain_attributes_are_found() -> None:
    attributes: dict[object, object] = {"training": True, "moving_mean": held(0, 0), "moving_var": held(1, 1)}
    parameters: dict[str, HeldTensor | None] = {"gamma": held(1, 1), "beta": held(0, 0)}
    norm = recognise("d2l.BatchNorm", attributes=attributes, parameters=parameters, buffers={})
    assert norm is not None
    assert norm.kind is NormKind.BATCH_NORM
    assert norm.running_mean is not None
    assert norm.weight is not None


@pytest.mark.parametrize(
    ("attributes", "buffers", "expected"),
    [
        ({"training": True, "initialized": True}, {}, False),
        ({"training": True, "initialized": False}, {}, True),
        ({"training": True}, {"initialized": held(0)}, True),
        ({"training": True}, {"initialized": held(1)}, False),
        ({"training": True}, {"data_dep_init_done": held(0)}, True),
        ({"training": True, "init_on_next_batch": True}, {}, True),
        ({"training": True, "init_on_next_batch": False}, {}, False),
        ({"training": True}, {"initialized": unavailable()}, False),
    ],
)
def test_act_norm_waits_for_its_first_batch(
    attributes: dict[object, object], buffers: dict[str, HeldTensor | None], expected: bool
) -> None:
    norm = recognise(
        "taming.ActNorm", attributes=attributes, parameters={"loc": held(0), "scale": held(1)}, buffers=buffers
    )
    assert norm is not None
    assert norm.uninitialised is expected
    assert norm.uses_batch_statistics is False


def test_a_lazy_layer_is_uninitialised_and_has_no_tensors_yet() -> None:
    lazy = held(uninitialised=True)
    norm = recognise(
        "torch.nn.modules.batchnorm.LazyBatchNorm2d",
        attributes={**SETTINGS, "num_features": 0},
        parameters={"weight": lazy, "bias": lazy},
        buffers={"running_mean": lazy, "running_var": lazy, "num_batches_tracked": held(0)},
    )
    assert norm is not None
    assert norm.uninitialised
    assert norm.running_mean is None
    assert norm.num_features is None


def test_an_observation_normaliser_is_no_norm_layer() -> None:
    buffers = {"running_mean": held(0, 0), "running_var": held(1, 1), "count": held(5)}
    attributes: dict[object, object] = {"training": True, "epsilon": 1e-5}
    assert recognise("rl_games.RunningMeanStd", attributes=attributes, parameters={}, buffers=buffers) is None


@pytest.mark.parametrize(
    ("type_name", "parameters", "buffers"),
    [
        ("torch.nn.modules.normalization.LayerNorm", AFFINE, {}),
        ("torch.nn.modules.conv.Conv2d", AFFINE, {}),
        ("their.Tracker", {}, {"running_mean": held(0)}),
    ],
)
def test_other_modules_are_none(
    type_name: str, parameters: dict[str, HeldTensor | None], buffers: dict[str, HeldTensor | None]
) -> None:
    assert recognise(type_name, parameters=parameters, buffers=buffers) is None


@pytest.mark.parametrize("value", ["0.1", float("nan"), True, [], None])
def test_a_setting_of_a_wrong_type_is_not_stated(value: object) -> None:
    norm = recognise("torch.nn.modules.batchnorm.BatchNorm2d", attributes={**SETTINGS, "eps": value, "momentum": value})
    assert norm is not None
    assert norm.eps is None
    assert norm.momentum is None
    assert norm.cumulative is (value is None)
