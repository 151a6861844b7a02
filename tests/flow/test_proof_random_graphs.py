"""The proof on random graphs against what onnxruntime measures: no wrong verdict in either direction."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx_grammar import SMOOTH, random_graph
from onnx_graphs import Unrunnable, floats, measured, proof_of

LENGTH = 8
DETERMINISTIC = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)


@DETERMINISTIC
@given(st.randoms(use_true_random=False))
def test_independent_means_independent(chance: random.Random) -> None:
    model, shape = random_graph(chance.choice, LENGTH)
    proof = proof_of(model)
    assume(proof.outputs[0].verdict == "independent")
    try:
        truth = measured(model, [floats(*shape)])
    except Unrunnable:
        return
    assert truth == ["independent"], proof


@DETERMINISTIC
@given(st.randoms(use_true_random=False))
def test_every_verdict_on_smooth_operators_is_the_measured_one(chance: random.Random) -> None:
    model, shape = random_graph(chance.choice, LENGTH, SMOOTH)
    (flow,) = proof_of(model).outputs
    try:
        truth = measured(model, [floats(*shape)])
    except Unrunnable:
        return
    assert flow.verdict in (*truth, "undecided"), flow


@pytest.mark.parametrize("smooth", [False, True])
def test_few_random_graphs_stay_undecided(smooth: bool) -> None:
    undecided = 0
    for seed in range(200):
        choose = random.Random(seed).choice
        model, _ = random_graph(choose, LENGTH, *([SMOOTH] if smooth else []))
        undecided += proof_of(model).outputs[0].verdict == "undecided"
    assert undecided <= (3 if smooth else 6)
