"""Exported programs with parts changed at random raise nothing but an ArtifactError."""

from __future__ import annotations

import copy
import json

import pytest
from exported_archives import MODEL, WEIGHTS, base_parts, exhausted, written
from hypothesis import given, settings
from hypothesis import strategies as st

from bn_audit.errors import ArtifactError


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return base_parts(tmp_path_factory.mktemp("hostile"))


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70),
    st.sampled_from([2**31, 2**62, 2**63, -(2**63), 2**64, 10**400]),
    st.floats(),
    st.sampled_from(["", "x", "as_tensor", "torch.ops.aten.batch_norm.default", "../..", "\ud800", "a.b\x00c"]),
    st.sampled_from(["torch.ops.aten.view.default", "torch.ops.higher_order.cond", "p_net_conv_weight", "x"]),
    st.just([]),
    st.just({}),
    st.just([[]]),
    st.just({"as_int": 2}),
    st.just({"as_tensor": {"name": "x"}}),
    st.just({"as_tensors": [{"name": "x"}, {"name": "x"}]}),
    st.just({"as_optional_tensors": [{"as_none": True}, {"as_tensor": "x"}]}),
)


def places(document: object) -> list[tuple[dict | list, object]]:
    """Return every container of the tree with each of its keys."""
    found, pending = [], [document]
    for container in pending:
        keys = list(container) if isinstance(container, dict) else range(len(container))
        found.extend((container, key) for key in keys)
        pending.extend(container[key] for key in keys if isinstance(container[key], dict | list))
    return found


def mutate(draw: st.DrawFn, document: object) -> None:
    """Replace, delete, repeat or rename one value anywhere in the tree."""
    every = places(document)
    if not every:
        return
    container, key = every[draw(st.integers(0, len(every) - 1))]
    action = draw(st.sampled_from(["replace", "replace", "delete", "repeat", "rename"]))
    if action == "replace":
        container[key] = copy.deepcopy(draw(JUNK))
    elif action == "delete":
        del container[key]
    elif isinstance(container, list):
        container.append(copy.deepcopy(container[key]))
    else:
        container[draw(st.sampled_from([*container, "as_int", "as_graph", "other"]))] = container.pop(key)


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_mutated_json_raises_nothing_else(base: dict[str, bytes], tmp_path_factory, data: st.DataObject) -> None:
    member = data.draw(st.sampled_from([MODEL, MODEL, MODEL, WEIGHTS]))
    document = json.loads(base[member])
    for _ in range(data.draw(st.integers(1, 4))):
        mutate(data.draw, document)
    path = written(base | {member: json.dumps(document).encode()}, tmp_path_factory.getbasetemp() / "mutated.pt2")
    try:
        exhausted(path)
    except ArtifactError as error:
        assert str(path) in str(error)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_mutated_bytes_raise_nothing_else(base: dict[str, bytes], tmp_path_factory, data: st.DataObject) -> None:
    path = written(base, tmp_path_factory.getbasetemp() / "bytes.pt2")
    raw = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw))) :]
    for _ in range(data.draw(st.integers(0, 8))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        exhausted(path)
    except ArtifactError as error:
        assert str(error)
