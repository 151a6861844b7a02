"""Every architecture of the zoo: how to build and feed it, and what it can be turned into."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cache

import torch
from torch import Tensor, nn

from zoo import classic, norms, odd

TRAINING_STEPS = 3
BATCH = 6


class Mode(Enum):
    TRAIN = "train"
    EVAL = "eval"
    MIXED = "mixed"


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One network of the zoo.

    Attributes:
        build: Returns it untrained.
        sample: Shapes of one sample of each input, without the batch axis; empty: it cannot run.
        dtype: Of its inputs.
        pickles: torch.save accepts the module.
        scripts: torch.jit.script accepts it.
        graphs: torch.jit.trace accepts it, and torch.export in the modes of `exports`.
        wrap: Applied to each copy of the trained network.
        expected: Codes of the findings that its pickled, trained evaluation-mode module has.
    """

    name: str
    build: Callable[[], nn.Module]
    sample: tuple[tuple[int, ...], ...]
    dtype: torch.dtype = torch.float32
    pickles: bool = True
    scripts: bool = False
    graphs: bool = False
    exports: tuple[Mode, ...] = tuple(Mode)
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model
    expected: frozenset[str] = frozenset()

    def inputs(self, batch: int = BATCH) -> tuple[Tensor, ...]:
        """Return a batch of random inputs."""
        return tuple((torch.randn(batch, *shape) * 2 + 0.5).to(self.dtype) for shape in self.sample)


IMAGE = ((3, 6, 6),)


def _convnet(**settings: object) -> Callable[[], nn.Module]:
    return lambda: odd.ConvNet(nn.BatchNorm2d(4, **settings), nn.BatchNorm2d(6, **settings))


def _typed(dtype: torch.dtype) -> Callable[[], nn.Module]:
    return lambda: odd.ConvNet(nn.BatchNorm2d(4), nn.BatchNorm2d(6)).to(dtype)


def _vanished() -> nn.Module:
    with norms.vanished_library() as library:
        return odd.Wrapped(library.Backbone())


def _on_meta() -> nn.Module:
    with torch.device("meta"):
        return classic.PlainCNN()


def _architectures() -> list[Architecture]:
    new = Architecture
    both = {"scripts": True, "graphs": True}
    return [
        new(name="plain_cnn", build=classic.PlainCNN, sample=IMAGE, **both),
        new(name="resnet", build=classic.ResNet, sample=IMAGE, **both),
        new(name="densenet", build=classic.DenseNet, sample=IMAGE, **both),
        new(name="mobilenet", build=classic.MobileNet, sample=IMAGE, **both),
        new(name="unet", build=classic.UNet, sample=IMAGE, **both),
        new(name="mlp_bn1d", build=classic.MLP, sample=((7,),), **both),
        new(name="cnn3d", build=classic.VideoNet, sample=((2, 3, 4, 4),), **both),
        new(name="lstm_bn", build=classic.RecurrentNet, sample=((4, 5),), **both),
        new(name="shared_bn", build=classic.SharedNorm, sample=IMAGE, **both, expected=frozenset({"BN211"})),
        new(name="nested", build=classic.Nested, sample=IMAGE, graphs=True),
        new(name="gan_generator", build=classic.Generator, sample=((6, 1, 1),), **both),
        new(name="siamese", build=classic.Siamese, sample=IMAGE * 2, **both),
        new(name="transformer", build=classic.Transformer, sample=((4, 5),), graphs=True),
        new(name="group_norm_only", build=classic.GroupNormOnly, sample=IMAGE, **both),
        new(name="with_dropout", build=classic.WithDropout, sample=((7,),), **both),
        new(name="custom_subclass", build=odd.subclassed, sample=IMAGE, graphs=True),
        new(name="lookalikes", build=odd.lookalikes, sample=IMAGE),
        new(name="vanished_library", build=_vanished, sample=IMAGE),
        new(
            name="sync_bn",
            build=lambda: nn.SyncBatchNorm.convert_sync_batchnorm(classic.PlainCNN()),
            sample=IMAGE,
            expected=frozenset({"BN314"}),
        ),
        new(name="lazy_materialised", build=odd.materialised, sample=IMAGE),
        new(
            name="lazy_uninitialised",
            build=lambda: odd.ConvNet(nn.LazyBatchNorm2d(), nn.LazyBatchNorm2d()),
            sample=(),
            expected=frozenset({"BN217"}),
        ),
        new(name="frozen_bn", build=odd.frozen, sample=IMAGE),
        new(
            name="instance_norm",
            build=lambda: odd.ConvNet(nn.InstanceNorm2d(4, affine=True), nn.InstanceNorm2d(6)),
            sample=IMAGE,
            graphs=True,
        ),
        new(
            name="instance_norm_tracked",
            build=lambda: odd.ConvNet(
                nn.InstanceNorm2d(4, track_running_stats=True),
                nn.InstanceNorm2d(6, affine=True, track_running_stats=True),
            ),
            sample=IMAGE,
            expected=frozenset({"BN506"}),
        ),
        new(
            name="no_track",
            build=_convnet(track_running_stats=False),
            sample=IMAGE,
            **both,
            expected=frozenset({"BN103"}),
        ),
        new(name="not_affine", build=_convnet(affine=False), sample=IMAGE, **both),
        new(
            name="no_track_not_affine",
            build=_convnet(affine=False, track_running_stats=False),
            sample=IMAGE,
            **both,
            expected=frozenset({"BN103"}),
        ),
        new(name="momentum_none", build=_convnet(momentum=None), sample=IMAGE, **both, exports=(Mode.EVAL,)),
        new(name="bfloat16", build=_typed(torch.bfloat16), sample=IMAGE, dtype=torch.bfloat16, graphs=True),
        new(name="half", build=_typed(torch.float16), sample=IMAGE, dtype=torch.float16),
        new(name="double", build=_typed(torch.float64), sample=IMAGE, dtype=torch.float64, **both),
        new(name="hidden_norms", build=odd.HiddenNorms, sample=IMAGE, expected=frozenset({"BN108"})),
        new(name="meta_device", build=_on_meta, sample=()),
        new(name="data_parallel", build=lambda: nn.DataParallel(classic.PlainCNN()), sample=IMAGE),
        new(name="compiled", build=odd.compiled, sample=IMAGE),
        new(name="graph_module", build=classic.ResNet, sample=IMAGE, graphs=True, wrap=torch.fx.symbolic_trace),
        new(name="parameter_state", build=odd.parameter_state, sample=IMAGE),
        new(name="strided_tensors", build=odd.strided_tensors, sample=IMAGE),
        new(name="running_mean_std", build=odd.NormalisedPolicy, sample=((5,),)),
        new(name="norm_factory", build=odd.NormFactory, sample=IMAGE),
        new(name="quantisation_aware", build=odd.quantisation_aware, sample=IMAGE),
        new(name="weight_norm_hooks", build=odd.hooked, sample=IMAGE),
        new(name="parametrised", build=odd.parametrised, sample=IMAGE, pickles=False),
        new(name="averaged_model", build=odd.averaged, sample=IMAGE),
        new(name="weight_standardised", build=odd.weight_standardised, sample=IMAGE, graphs=True),
    ]


ZOO: dict[str, Architecture] = {architecture.name: architecture for architecture in _architectures()}


@cache
def _trained(name: str) -> nn.Module:
    """Return the network after some training-mode forward passes: every statistic and counter has moved."""
    architecture = ZOO[name]
    torch.manual_seed(sum(name.encode()))
    model = architecture.build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        model.train()
        for _ in range(TRAINING_STEPS):
            model(*architecture.inputs())
    return model


def is_norm(module: nn.Module) -> bool:
    """Return whether a module is a batch norm whose mode the zoo switches."""
    return isinstance(module, (nn.modules.batchnorm._NormBase, norms.HandmadeNorm, norms.InPlaceNorm))


def network(name: str, mode: Mode) -> nn.Module:
    """Return a fresh copy of the trained network in the given mode; MIXED trains every other norm layer."""
    architecture = ZOO[name]
    model = architecture.wrap(copy.deepcopy(_trained(name)) if architecture.sample else architecture.build())
    model.train(mode is Mode.TRAIN)
    if mode is Mode.MIXED:
        for module in [module for module in model.modules() if is_norm(module)][1::2]:
            module.train()
    return model


def modes(name: str) -> tuple[Mode, ...]:
    """Return the modes in which the network differs: a network with fewer than two norm layers has no mixed one."""
    several = sum(is_norm(module) for module in network(name, Mode.EVAL).modules()) > 1
    return (Mode.TRAIN, Mode.EVAL, Mode.MIXED) if several else (Mode.TRAIN, Mode.EVAL)
