"""Clean networks in evaluation mode, with samples for them: the ground on which faults are planted."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

TESTS = Path(__file__).parents[1]
for folder in (TESTS, TESTS / "flow"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))

import flow_networks as flow  # noqa: E402
from zoo.catalogue import ZOO, Mode, network  # noqa: E402

NAMES = (
    *("plain_cnn", "resnet", "densenet", "mobilenet", "unet", "mlp_bn1d", "cnn3d", "lstm_bn", "shared_bn", "nested"),
    *("gan_generator", "siamese", "transformer", "group_norm_only", "with_dropout", "custom_subclass", "lookalikes"),
    *("sync_bn", "frozen_bn", "instance_norm", "instance_norm_tracked", "not_affine", "momentum_none", "double"),
    *("graph_module", "parameter_state", "strided_tensors", "weight_standardised", "averaged_model", "data_parallel"),
)
"""Networks of the zoo whose rows are independent in evaluation mode, trained for some steps."""

WITHOUT_TRAINING = {
    "windows": (lambda: flow.Windows("own"), ((3, 16, 16),)),
    "shifted_windows": (lambda: flow.Windows("none", shift=2), ((3, 16, 16),)),
    "attention": (lambda: flow.Tokens(batch_first=True), ((5, 18),)),
    "lstm": (lambda: flow.Recurrent(nn.LSTM, True), ((6, 5),)),
    "gru": (lambda: flow.Recurrent(nn.GRU, True, bidirectional=True), ((6, 5),)),
    "graphs": (lambda: flow.Graphs(apart=True), ((5, 6),)),
    "packed": (lambda: flow.Packed(masked=True), ((4, 8),)),
    "experts": (lambda: flow.Experts("dense"), ((4, 16),)),
    "neighbours": (lambda: flow.Neighbours(own=True), ((3, 12),)),
    "excited": (lambda: flow.Excited(own=True), ((3, 8, 8),)),
}
"""Random networks without a batch norm."""


@dataclass(frozen=True, kw_only=True)
class Clean:
    """One network.

    Attributes:
        build: Returns it, the same weights each time, in evaluation mode.
        sample: Shape of one sample of each input.
        exports: torch.onnx and torch.export accept it.
    """

    name: str
    build: Callable[[], nn.Module]
    sample: tuple[tuple[int, ...], ...]
    dtype: torch.dtype
    exports: bool

    def draw(self, count: int, seed: int = 0, scale: float = 1.0) -> tuple[Tensor, ...]:
        """Return distinct samples."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(
            ((torch.randn(count, *shape, generator=generator) * 2 + 0.5) * scale).to(self.dtype)
            for shape in self.sample
        )


def _random(name: str) -> nn.Module:
    torch.manual_seed(sum(name.encode()))
    return WITHOUT_TRAINING[name][0]().eval()


@cache
def clean() -> dict[str, Clean]:
    """Return every network by name."""
    found = {}
    for name in NAMES:
        architecture = ZOO[name]
        found[name] = Clean(
            name=name,
            build=lambda name=name: _quietly(name),
            sample=architecture.sample,
            dtype=architecture.dtype,
            exports=architecture.graphs,
        )
    for name, (_, sample) in WITHOUT_TRAINING.items():
        found[name] = Clean(
            name=name, build=lambda name=name: _random(name), sample=sample, dtype=torch.float32, exports=True
        )
    return found


def _quietly(name: str) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return network(name, Mode.EVAL)
