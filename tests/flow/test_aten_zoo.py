"""The networks of the zoo as torch.export writes them, whole and decomposed: proved and measured, as one table."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from aten_programs import exported, floats, measured, proof_of
from zoo.catalogue import ZOO, Mode, modes, network

RANDOM = {("with_dropout", Mode.TRAIN)}
"""Live dropout: position and size cannot be measured."""

NAMES = (
    *("plain_cnn", "resnet", "densenet", "unet", "mlp_bn1d", "transformer", "instance_norm", "no_track", "shared_bn"),
    *("with_dropout", "group_norm_only", "weight_standardised", "lookalikes"),
)

MOST_UNDECIDED = 0.03


def verdicts(name: str) -> Iterator[tuple[str, str]]:
    """Yield what is proved and what is measured of each output, in eval and train mode, whole and decomposed."""
    draws = [floats(*shape) for shape in ZOO[name].sample]
    for mode in (Mode.EVAL, Mode.TRAIN):
        if mode not in modes(name):
            continue
        for decomposed in (False, True):
            torch.manual_seed(0)
            try:
                program = exported(copy.deepcopy(network(name, mode)), draws, decomposed=decomposed)
            except Exception:
                continue  # torch.export refuses the network, or its batch axis
            truth = measured(program, draws, random=(name, mode) in RANDOM)
            yield from zip((flow.verdict for flow in proof_of(program).outputs), truth, strict=False)


@pytest.fixture(scope="module")
def table() -> Counter[tuple[str, str]]:
    """Count each pair of proved and measured verdict."""
    return Counter(pair for name in NAMES for pair in verdicts(name))


def test_no_proof_is_wrong(table: Counter[tuple[str, str]]) -> None:
    assert {pair: number for pair, number in table.items() if pair[0] not in ("undecided", pair[1])} == {}


def test_hardly_anything_is_undecided(table: Counter[tuple[str, str]]) -> None:
    undecided = sum(number for (proved, _truth), number in table.items() if proved == "undecided")
    assert undecided <= MOST_UNDECIDED * table.total()
    assert min(table["independent", "independent"], table["mixes", "mixes"]) >= 10
