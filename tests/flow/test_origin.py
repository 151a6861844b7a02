from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bn_audit.flow.origin import Operation, input_origin
from bn_audit.flow.placement import Along, Folded, Placement
from bn_audit.subject.norm import InputOrigin

SYMBOLIC = ("s0", 3, 8, 8)


def origin(value, /, parameters=("w",), inputs=("x",), **producers):
    return input_origin(value, producers, parameters=frozenset(parameters), inputs=frozenset(inputs))


def op(name, *inputs, integers=(), shape=None):
    return Operation(op=name, inputs=inputs, integers=integers, shape=shape)


def placeholder(*shape):
    return op("placeholder", shape=shape)


def test_graph_input_and_what_a_network_computes_from_it_are_activations():
    assert origin("x") is InputOrigin.ACTIVATIONS
    chain = {
        "conv": op("conv2d", "x", "w"),
        "relu": op("relu_", "conv"),
        "pool": op("max_pool2d", "relu"),
        "sum": op("add", "pool", "w"),
        "flat": op("flatten", "sum", integers=(1, -1)),
        "fc": op("linear", "flat", "w"),
    }
    assert {name: origin(name, **chain) for name in chain} == dict.fromkeys(chain, InputOrigin.ACTIVATIONS)


def test_standardised_weights_are_parameters():
    producers = {"flat": op("reshape", "w", integers=(1, 64, -1)), "scaled": op("mul", "flat", "c"), "c": op("full")}
    assert origin("w") is InputOrigin.PARAMETERS
    assert origin("flat", **producers) is InputOrigin.PARAMETERS
    assert origin("scaled", **producers) is InputOrigin.PARAMETERS


def test_noise_made_in_the_graph_is_not_a_parameter():
    assert origin("z", z=op("randn", integers=(None, 16), shape=("s0", 16))) is InputOrigin.UNDECIDED
    expanded = op("expand", "w", integers=(None, 16))
    assert origin("z", e=expanded, z=op("rand_like", "e")) is InputOrigin.UNDECIDED
    assert origin("z", z=op("zeros", integers=(None, 16))) is InputOrigin.UNDECIDED


@pytest.mark.parametrize("leading", ["s0", 4, None])
def test_samples_folded_into_channels_are_instances(leading):
    producers = {
        "x": placeholder(leading, 3, 8, 8),
        "cast": op("clone", "x", shape=(leading, 3, 8, 8)),
        "view": op("view", "cast", shape=(1, 12 if leading == 4 else "3*s0", 8, 8)),
        "dense": op("contiguous", "view", shape=(1, "3*s0", 8, 8)),
    }
    assert origin("dense", **producers) is InputOrigin.INSTANCES


def test_integers_of_a_view_suffice_where_the_shape_before_is_recorded():
    producers = {"x": placeholder(None, 16, 8, 8), "view": op("view", "x", integers=(1, None, 8, 8))}
    assert origin("view", **producers) is InputOrigin.INSTANCES
    grouped = producers | {"view": op("reshape", "x", integers=(1, None, 4, 8, 8))}
    assert origin("view", **grouped) is InputOrigin.INSTANCES
    straddling = producers | {"view": op("view", "x", integers=(1, None, 3, 8))}
    assert origin("view", **straddling) is InputOrigin.UNDECIDED


def test_symbolic_sizes_with_the_same_text_cancel():
    producers = {
        "x": placeholder("s0", 3, "s1", "s1"),
        "view": op("view", "x", shape=(1, "3*s0", "s1", "s1")),
        "other": op("view", "x", shape=(1, "3*s0", "s1", "s2")),
    }
    assert origin("view", **producers) is InputOrigin.INSTANCES
    assert origin("other", **producers) is InputOrigin.UNDECIDED


@pytest.mark.parametrize(
    "producers",
    [
        {"x": placeholder(1, 3, 8, 8), "v": op("view", "x", shape=(1, 3, 8, 8), integers=(1, 3, 8, 8))},
        {"x": placeholder(1, 3, 8, 8), "v": op("view", "x", shape=(1, 3, 64))},
        {"x": placeholder("s0", 3, 8, 8), "v": op("view", "x", shape=(1, 3, "8*s0", 8))},
        {"v": op("view", "x", integers=(1, None, None, None))},
        {"v": op("view", "x", integers=(1, -1, 8, 8))},
    ],
)
def test_what_is_not_proved_is_not_called_instances(producers):
    assert origin("v", **producers) is not InputOrigin.INSTANCES


@pytest.mark.parametrize(
    ("producers", "expected"),
    [
        ({"v": op("view", "x", shape=("s0", 192))}, InputOrigin.ACTIVATIONS),
        ({"v": op("view", "x", shape=("3*s0", 64))}, InputOrigin.ACTIVATIONS),
        ({"v": op("view", "x", shape=(4, "48*s0"))}, InputOrigin.UNDECIDED),
        ({"v": op("transpose", "x", integers=(0, 1))}, InputOrigin.UNDECIDED),
        ({"v": op("transpose", "x", integers=(-1, 0))}, InputOrigin.ACTIVATIONS),
        ({"v": op("unsqueeze", "x", integers=(0,))}, InputOrigin.UNDECIDED),
        ({"v": op("select", "x", integers=(0, 2))}, InputOrigin.UNDECIDED),
        ({"v": op("mean", "x", integers=(0,))}, InputOrigin.UNDECIDED),
        ({"v": op("mean", "x", integers=(-1, -2))}, InputOrigin.ACTIVATIONS),
        ({"v": op("mystery", "x")}, InputOrigin.UNDECIDED),
        ({"v": op("mystery", "x", shape=("s0", 7))}, InputOrigin.ACTIVATIONS),
        ({"v": op("mm", "w", "x")}, InputOrigin.UNDECIDED),
    ],
)
def test_where_the_batch_axis_goes(producers, expected):
    assert origin("v", x=placeholder(*SYMBOLIC), **producers) is expected


def test_instance_norms_in_a_row_are_all_recognised():
    producers = {"x": placeholder(*SYMBOLIC)}
    before = "x"
    for index in range(3):
        producers[f"fold{index}"] = op("view", before, shape=(1, "3*s0", 8, 8))
        producers[f"norm{index}"] = op("_native_batch_norm_legit", f"fold{index}", "w", shape=(1, "3*s0", 8, 8))
        producers[f"back{index}"] = op("view", f"norm{index}", shape=SYMBOLIC)
        producers[f"relu{index}"] = before = op("relu", f"back{index}", shape=SYMBOLIC)
        before = f"relu{index}"
    assert {origin(f"fold{index}", **producers) for index in range(3)} == {InputOrigin.INSTANCES}
    assert {origin(f"relu{index}", **producers) for index in range(3)} == {InputOrigin.ACTIVATIONS}


def test_unknown_values_and_cycles_are_undecided():
    assert origin("nowhere") is InputOrigin.UNDECIDED
    assert origin("a", a=op("relu", "b"), b=op("relu", "a")) is InputOrigin.UNDECIDED
    assert origin("a", a=op("relu", "a")) is InputOrigin.UNDECIDED


def test_a_scalar_input_is_no_batch():
    assert origin("v", x=placeholder(), v=op("mul", "w", "x")) is InputOrigin.UNDECIDED


def test_walks_share_what_they_found_and_hostile_graphs_end_in_time():
    size = 200_000
    producers = {f"v{n}": op("add", f"v{n - 1}", f"v{n // 2}") for n in range(1, size)} | {"v0": op("relu", "x")}
    placements: dict[str, Placement] = {}
    started = time.perf_counter()
    for value in (f"v{size - 1}", *producers):
        found = input_origin(value, producers, parameters=(), inputs=("x",), placements=placements)
        assert found is InputOrigin.ACTIVATIONS
    fan = {"all": op("cat", *(["x"] * 5_000_000))}
    assert input_origin("all", fan, parameters=(), inputs=("x",)) is InputOrigin.UNDECIDED
    assert time.perf_counter() - started < 20


PRIME = 7
"""A batch that divides no other size, so that a size of which it is a factor can only come from it."""


def _recorded(shape: torch.Size, batch: int) -> tuple[int | str, ...]:
    """Return sizes as a graph records them; with the prime batch as one with a dynamic batch does."""
    return tuple(f"{size // PRIME}*s0" if batch == PRIME and size % PRIME == 0 else size for size in shape)


@st.composite
def reordered_ids(draw):
    """A tensor of sample numbers after a few reshapes, with the graph that records them."""
    batch = draw(st.sampled_from([PRIME, 2, 6]))
    shape = (batch, draw(st.sampled_from([2, 3])), draw(st.sampled_from([2, 4])), 2)
    ids = torch.arange(batch).view(batch, 1, 1, 1).expand(shape).contiguous()
    producers = {"x": op("placeholder", shape=_recorded(ids.shape, batch))}
    name = "x"
    for step in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["view", "view", "permute", "unsqueeze", "squeeze", "transpose"]))
        if kind == "view":
            sizes, left = [], ids.numel()
            for _ in range(draw(st.integers(1, 3))):
                sizes.append(draw(st.sampled_from([n for n in range(1, left + 1) if left % n == 0])))
                left //= sizes[-1]
            integers, ids = (), ids.contiguous().view(*sizes, left)
        elif kind == "permute":
            integers = tuple(draw(st.permutations(range(ids.dim()))))
            ids = ids.permute(integers)
        elif kind == "unsqueeze":
            integers = (draw(st.integers(-ids.dim() - 1, ids.dim())),)
            ids = ids.unsqueeze(*integers)
        elif kind == "squeeze":
            integers = (draw(st.integers(-ids.dim(), ids.dim() - 1)),)
            ids = ids.squeeze(*integers)
        else:
            integers = tuple(draw(st.lists(st.integers(-ids.dim(), ids.dim() - 1), min_size=2, max_size=2)))
            ids = ids.transpose(*integers)
        producers[f"v{step}"] = op(kind, name, integers=integers, shape=_recorded(ids.shape, batch))
        name = f"v{step}"
    return ids, producers, name


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(reordered_ids())
def test_claims_hold_for_the_samples_themselves(drawn):
    ids, producers, name = drawn
    placements: dict[str, Placement] = {}
    found = input_origin(name, producers, parameters=(), inputs=("x",), placements=placements)
    place = placements[name]
    if isinstance(place, Along):
        per_index = [row.unique().numel() for row in ids.unbind(place.axis)]
        assert len(per_index) > 1
        assert not place.whole or set(per_index) == {1}
    if isinstance(place, Folded):
        assert ids.shape[0] == 1
    if ids.dim() > 1:
        per_channel = [channel.unique().numel() for channel in ids.unbind(1)]
        if found is InputOrigin.INSTANCES:
            assert set(per_channel) == {1}
        elif found is InputOrigin.ACTIVATIONS:
            assert min(per_channel) > 1
