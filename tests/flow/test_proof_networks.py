"""Whole networks as torch's exporters write them, most of them in pairs: proved and measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import flow_networks as nets
import numpy as np
import pytest
import torch
from onnx_graphs import Draw, exported, floats, integers, measured, proof_of
from torch import nn

IMAGE, CLIP, TOKENS, VECTOR = (3, 16, 16), (4, 3, 6, 6), (6, 16), (8,)

Case = tuple[Callable[[], nn.Module], tuple[Draw, ...], str]

CASES: dict[str, Case] = {
    "windows": (lambda: nets.Windows(), (floats(*IMAGE),), "independent"),
    "shifted windows": (lambda: nets.Windows(shift=2), (floats(*IMAGE),), "independent"),
    "queries in the windows' order": (lambda: nets.Windows("interleaved"), (floats(*IMAGE),), "independent"),
    "queries in the images' order": (lambda: nets.Windows("tiled"), (floats(*IMAGE),), "mixes"),
    "attention over tokens": (lambda: nets.Tokens(True), (floats(7, 18),), "independent"),
    "attention over samples": (lambda: nets.Tokens(False), (floats(7, 18),), "mixes"),
    "lstm over time": (lambda: nets.Recurrent(nn.LSTM, True, True), (floats(7, 5),), "independent"),
    "lstm over the batch": (lambda: nets.Recurrent(nn.LSTM, False), (floats(7, 5),), "mixes"),
    "gru over time": (lambda: nets.Recurrent(nn.GRU, True), (floats(7, 5),), "independent"),
    "gru over the batch": (lambda: nets.Recurrent(nn.GRU, False, True), (floats(7, 5),), "mixes"),
    "instance norm as batch norm": (nets.InstanceAsBatchNorm, (floats(3, 9, 9),), "independent"),
    "weight standardisation": (nets.Standardised, (floats(3, 9, 9),), "independent"),
    "deviation of an image": (lambda: nets.BatchDeviation(True), (floats(*IMAGE),), "independent"),
    "deviation of the batch": (lambda: nets.BatchDeviation(False), (floats(*IMAGE),), "mixes"),
    "edges within samples": (lambda: nets.Graphs(True), (floats(5, 6),), "independent"),
    "edges between samples": (lambda: nets.Graphs(False), (floats(5, 6),), "mixes"),
    "packed and masked": (lambda: nets.Packed(True), (floats(4, 8),), "independent"),
    "packed and masked by a low number": (lambda: nets.Packed(True, -1e9), (floats(4, 8),), "independent"),
    "packed": (lambda: nets.Packed(False), (floats(4, 8),), "mixes"),
    "dense experts": (lambda: nets.Experts("dense"), (floats(*TOKENS),), "independent"),
    "dispatched experts": (lambda: nets.Experts("dispatched"), (floats(4, 16),), "independent"),
    "experts with a capacity": (lambda: nets.Experts("capacity"), (floats(*TOKENS),), "mixes"),
    "own neighbours": (lambda: nets.Neighbours(True), (floats(3, 10),), "independent"),
    "another's neighbours": (lambda: nets.Neighbours(False), (floats(3, 10),), "mixes"),
    "own last token": (lambda: nets.LastToken(True), (integers(50, 9),), "independent"),
    "another's last token": (lambda: nets.LastToken(False), (integers(50, 9),), "mixes"),
    "own token erased": (lambda: nets.Erased(True), (integers(50, 9),), "independent"),
    "another's token erased": (lambda: nets.Erased(False), (integers(50, 9),), "mixes"),
    "gate of an image": (lambda: nets.Excited(True), (floats(*IMAGE),), "independent"),
    "gate of the batch": (lambda: nets.Excited(False), (floats(*IMAGE),), "mixes"),
    "next frame of the clip": (lambda: nets.Shifted(True), (floats(*CLIP),), "independent"),
    "next frame of the batch": (lambda: nets.Shifted(False), (floats(*CLIP),), "mixes"),
    "vector of a place": (lambda: nets.Positions(False), (floats(5, 8),), "independent"),
    "vector of a row": (lambda: nets.Positions(True), (floats(5, 8),), "position"),
    "flattened rows": (lambda: nets.Flattened(True), (floats(*VECTOR),), "independent"),
    "flattened batch": (lambda: nets.Flattened(False), (floats(*VECTOR),), "mixes"),
    "siamese": (nets.Siamese, (floats(*IMAGE), floats(*IMAGE)), "independent"),
    "patient with itself": (lambda: nets.Patient(True), (floats(*VECTOR),), "independent"),
    "patient with the batch": (lambda: nets.Patient(False), (floats(*VECTOR),), "mixes"),
    "squeezed": (nets.Squeezed, (floats(*IMAGE),), "independent"),
}

SHAPES_FIXED = {
    ("siamese", True),
    ("lstm over the batch", True),
    ("gru over the batch", True),
    ("attention over samples", False),
}
"""The exporter fixes the batch size of these, so that there is nothing to measure."""


def model_of(name: str, *, dynamo: bool) -> bytes:
    build, draws, _ = CASES[name]
    torch.manual_seed(0)
    module = build().eval()
    generator = np.random.default_rng(0)
    return exported(module, tuple(torch.from_numpy(draw(generator, 3)) for draw in draws), dynamo=dynamo)


@pytest.mark.parametrize("dynamo", [False, True], ids=["legacy", "dynamo"])
@pytest.mark.parametrize("name", CASES)
def test_the_proof_is_what_is_measured(name: str, dynamo: bool) -> None:
    if (name, dynamo) in SHAPES_FIXED:
        pytest.skip("exported for one batch size")
    _, draws, expected = CASES[name]
    try:
        model = model_of(name, dynamo=dynamo)
    except torch.onnx.errors.UnsupportedOperatorError:
        pytest.skip("this exporter lacks an operator of it")
    assert measured(model, draws) == [expected]
    (flow,) = proof_of(model).outputs
    assert flow.verdict == expected, flow


def test_mixing_names_its_node() -> None:
    proof = proof_of(model_of("gate of the batch", dynamo=False))
    assert proof.outputs[0].node == "/ReduceMean"
    assert {(mark.kind, mark.node) for mark in proof.marks} == {("mixes", "/ReduceMean")}


def test_an_axis_that_may_vanish_is_marked() -> None:
    proof = proof_of(model_of("squeezed", dynamo=False))
    assert [mark.kind for mark in proof.marks] == ["fixed-batch"]


def test_all_norms_in_training_form_are_marked() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)]
    module = nn.Sequential(*layers)
    marks = proof_of(exported(module.train(), (torch.randn(3, 3, 9, 9),), training=True)).marks
    assert [mark.kind for mark in marks] == ["mixes", "mixes"]


def test_the_verdicts_in_one_table() -> None:
    expected = Counter(verdict for _, _, verdict in CASES.values())
    assert expected["independent"] >= 18
    assert expected["mixes"] >= 14
