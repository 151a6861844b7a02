"""Norm layers by the names and shapes of a state dict."""

from __future__ import annotations

import pytest

from bn_audit.recognition.state_dict import layers_of_state_dict
from bn_audit.subject.finding import Confidence
from bn_audit.subject.norm import Mode, NormKind
from bn_audit.subject.tensor import TensorRef


def tensors(**shapes: tuple[int, ...]) -> dict[str, TensorRef]:
    return named({name.replace("__", "."): shape for name, shape in shapes.items()})


def named(shapes: dict[str, tuple[int, ...]]) -> dict[str, TensorRef]:
    return {
        name: TensorRef(name=name, dtype="float32", shape=shape, load=lambda: b"") for name, shape in shapes.items()
    }


def batch_norm(path: str, channels: int = 4, *, counter: bool = True) -> dict[str, tuple[int, ...]]:
    shapes = {f"{path}.{leaf}": (channels,) for leaf in ("weight", "bias", "running_mean", "running_var")}
    return {**shapes, f"{path}.num_batches_tracked": ()} if counter else shapes


def affine(path: str, channels: int = 4) -> dict[str, tuple[int, ...]]:
    return {f"{path}.weight": (channels,), f"{path}.bias": (channels,)}


def test_a_batch_norm_is_found_and_its_mode_is_unknown() -> None:
    layers = layers_of_state_dict(named({"conv.weight": (4, 3, 3, 3), **batch_norm("bn")}), model="m")
    (norm,) = layers.norms
    assert (norm.model, norm.path, norm.kind, norm.mode) == ("m", "bn", NormKind.BATCH_NORM, Mode.UNKNOWN)
    assert norm.uses_batch_statistics is None
    assert norm.num_features == 4
    assert norm.preceding == "conv"
    assert norm.tensors.keys() == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


@pytest.mark.parametrize("counter", [True, False])
def test_a_file_without_batch_counters_is_as_good(counter: bool) -> None:
    (norm,) = layers_of_state_dict(named(batch_norm("bn", counter=counter)), model="").norms
    assert norm.confidence is Confidence.HIGH


def test_names_of_burn_and_tensorflow_are_understood() -> None:
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(
        ("n.gamma", "n.beta", "n.moving_mean", "n.moving_variance"), (4,)
    )
    (norm,) = layers_of_state_dict(named(shapes), model="").norms
    assert norm.weight is not None
    assert norm.running_var is not None
    assert norm.running_var.name == "n.moving_variance"


@pytest.mark.parametrize(
    "shapes",
    [
        {"weight": (2, 3), "bias": (2,), "running_mean": (2,)},
        {"weight": (2, 3), "bias": (2,), "running_mean": (2,), "running_var": (2,)},
        {"obs.running_mean": (7,), "obs.running_var": (7,), "obs.count": ()},
        {"x.running_mean": (7,)},
        {"running_mean": (7, 7), "running_var": (7, 7)},
    ],
)
def test_look_alikes_are_no_batch_norm(shapes: dict[str, tuple[int, ...]]) -> None:
    layers = layers_of_state_dict(named(shapes), model="")
    assert layers.norms == ()
    assert [orphan for orphan in layers.orphans if orphan.evidence] == []


def test_an_instance_norm_by_name_never_mixes_samples() -> None:
    (norm,) = layers_of_state_dict(named(batch_norm("block.instance_norm1")), model="").norms
    assert norm.kind is NormKind.INSTANCE_NORM
    assert norm.uses_batch_statistics is False


def test_statistics_alone_are_a_batch_norm_with_less_confidence() -> None:
    (norm,) = layers_of_state_dict(tensors(bn__running_mean=(3,), bn__running_var=(3,)), model="").norms
    assert norm.confidence is Confidence.MEDIUM
    assert norm.affine is False


@pytest.mark.parametrize(
    "shapes",
    [
        affine("layer1.0.bn1"),
        affine("features.batch_norm"),
        {**affine("x"), "x.num_batches_tracked": ()},
        {**batch_norm("blocks.0.norm"), **batch_norm("blocks.1.norm"), **affine("blocks.2.norm")},
    ],
)
def test_lost_statistics_are_proved_by_name_counter_or_siblings(shapes: dict[str, tuple[int, ...]]) -> None:
    layers = layers_of_state_dict(named(shapes), model="")
    assert [bool(orphan.evidence) for orphan in layers.orphans] == [True]


@pytest.mark.parametrize(
    "shapes",
    [
        affine("encoder.layers.0.norm1"),
        affine("ln_f"),
        # a PReLU beside a batch norm of the same Sequential
        {**batch_norm("net.1"), **batch_norm("net.4"), "net.2.weight": (4,)},
        # batch norms in the first stage, layer norms of the same name in the second
        {**batch_norm("stages.0.norm"), **affine("stages.1.norm"), **affine("stages.2.norm")},
        {**batch_norm("blocks.0.ln"), **batch_norm("blocks.1.ln"), **affine("blocks.2.ln")},
    ],
)
def test_affine_pairs_of_other_layers_prove_nothing(shapes: dict[str, tuple[int, ...]]) -> None:
    layers = layers_of_state_dict(named(shapes), model="")
    assert [orphan.evidence for orphan in layers.orphans if orphan.evidence] == []


def test_siblings_prove_nothing_in_a_block_that_is_built_otherwise() -> None:
    """CoAtNet: batch norms in the convolutional blocks, layer norms of the same name before attention."""
    convolutional = {f"stages.{stage}.blocks.0.conv.weight": (4, 4, 3, 3) for stage in range(3)}
    shapes = {
        **convolutional,
        **batch_norm("stages.0.blocks.0.norm1"),
        **batch_norm("stages.1.blocks.0.norm1"),
        **batch_norm("stages.2.blocks.0.norm1"),
        "stages.2.blocks.1.attn.qkv.weight": (12, 4),
        **affine("stages.2.blocks.1.norm1"),
    }
    layers = layers_of_state_dict(named(shapes), model="")
    assert [(orphan.path, orphan.evidence) for orphan in layers.orphans] == [("stages.2.blocks.1.norm1", None)]
    alike = {
        **shapes,
        "stages.2.blocks.2.conv.weight": (4, 4, 3, 3),
        **affine("stages.2.blocks.2.norm1"),
        **batch_norm("stages.3.blocks.0.norm1"),
        "stages.3.blocks.0.conv.weight": (4, 4, 3, 3),
    }
    layers = layers_of_state_dict(named(alike), model="")
    assert [orphan.path for orphan in layers.orphans if orphan.evidence] == ["stages.2.blocks.2.norm1"]


@pytest.mark.parametrize(
    ("beside", "versions", "confidence"),
    [
        ({}, None, Confidence.MEDIUM),
        ({}, {"bn1": 2}, Confidence.HIGH),
        (batch_norm("bn2"), None, Confidence.HIGH),
    ],
)
def test_a_name_proves_little_where_group_norms_may_have_taken_it_over(
    beside: dict[str, tuple[int, ...]], versions: dict[str, int] | None, confidence: Confidence
) -> None:
    layers = layers_of_state_dict(named({**affine("bn1"), **beside}), model="", versions=versions)
    assert [orphan.confidence for orphan in layers.orphans] == [confidence]


@pytest.mark.parametrize(
    "shapes",
    [
        {"bn.weight": (4,), "bn.bias": (4,), "bn.running_mean": (4,), "bn.running_std": (4,)},  # BatchRenorm
        {"bn.weight": (4,), "bn.bias": (4,), "bn.v": (4,), "bn.running_var": (4,)},  # EvoNorm-B0
        {"bn.stored_mean": (4,), "bn.stored_var": (4,)},  # BigGAN
        {  # ConvBn2d of quantisation-aware training in torch 1.3
            "bn.weight": (4, 3, 1, 1),
            "bn.gamma": (4,),
            "bn.beta": (4,),
            "bn.running_mean": (4,),
            "bn.running_var": (4,),
            "bn.num_batches_tracked": (),
        },
        {  # batch norm for complex numbers
            "bn.weight": (4, 3),
            "bn.bias": (4, 2),
            "bn.running_mean": (4,),
            "bn.running_covar": (4, 3),
            "bn.num_batches_tracked": (),
        },
    ],
)
def test_batch_norms_of_other_kinds_are_found(shapes: dict[str, tuple[int, ...]]) -> None:
    layers = layers_of_state_dict(named(shapes), model="")
    assert [(norm.path, norm.num_features) for norm in layers.norms] == [("bn", 4)]
    assert all(norm.weight is None or norm.weight.shape == (4,) for norm in layers.norms)
    assert layers.orphans == ()


def test_names_with_slashes_are_understood() -> None:
    shapes = {name.replace(".", "/"): shape for name, shape in batch_norm("block.bn").items()}
    assert [norm.path for norm in layers_of_state_dict(named(shapes), model="").norms] == ["block/bn"]


def test_models_stacked_into_one_are_found() -> None:
    """What ``torch.func.stack_module_state`` returns for three models."""
    stacked = {name: (3, *shape) for name, shape in batch_norm("bn").items()}
    layers = layers_of_state_dict(named(stacked), model="")
    (norm,) = layers.norms
    assert set(norm.tensors) == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


def test_recorded_versions_tell_layer_norms_from_lost_batch_norms() -> None:
    found = named({**affine("a.norm"), **affine("b.norm")})
    layers = layers_of_state_dict(found, model="", versions={"a.norm": 1, "b.norm": 2})
    assert [orphan.path for orphan in layers.orphans] == ["b.norm"]
