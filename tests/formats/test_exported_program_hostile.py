"""Damaged and hostile archives end in an ArtifactError, soon, whatever they hold."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest
import torch
from exported_archives import (
    MODEL,
    WEIGHTS,
    base_parts,
    changed,
    exhausted,
    flat,
    members,
    pack,
    with_pickled_weights,
    written,
)
from exported_networks import data, export, read, save, target
from torch import nn

from bn_audit.containers.target import ModuleTarget
from bn_audit.errors import ArtifactError, LimitExceededError, MalformedFileError
from bn_audit.formats._exported import document
from bn_audit.formats.exported_program import FORMAT


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return base_parts(tmp_path_factory.mktemp("hostile"))


def refused(parts: dict[str, bytes], path: Path, match: str | None = None) -> None:
    with pytest.raises(ArtifactError, match=match):
        exhausted(written(parts, path))


@pytest.mark.parametrize(
    ("member", "document", "error"),
    [
        (MODEL, b"", MalformedFileError),
        (MODEL, b"[]", MalformedFileError),
        (MODEL, b"{}", MalformedFileError),
        (MODEL, b"\xff\xfe{", MalformedFileError),
        (MODEL, b'{"graph_module": 1e999}', MalformedFileError),
        (MODEL, b'{"graph_module": ' + b"9" * 100_000 + b"}", MalformedFileError),
        (MODEL, b'{"graph_module": ' + b"[" * 200_000, LimitExceededError),
        (MODEL, b'{"a":' * 200_000 + b"1" + b"}" * 200_000, LimitExceededError),
        (MODEL, b'{"graph_module": [' + b"[]," * 9_000_000 + b"[]]}", LimitExceededError),
        (WEIGHTS, b'{"config": {"a": {"tensor_meta": {}, "path_name": "x"}}}', MalformedFileError),
        (WEIGHTS, b'{"config": []}', MalformedFileError),
    ],
    ids=range(11),
)
def test_json_bombs(base: dict[str, bytes], member: str, document: bytes, error: type, tmp_path: Path) -> None:
    path = written(base | {member: document}, tmp_path / "bomb.pt2")
    started = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(error, match=r"bomb\.pt2"):
            exhausted(path)
        assert tracemalloc.get_traced_memory()[1] < 256 << 20
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - started < 10


def test_members_beyond_the_cap(base: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_JSON_BYTES", 1000)
    with pytest.raises(LimitExceededError, match=r"model\.json"):
        exhausted(written(base, tmp_path / "large.pt2"))


def test_last_of_two_equal_keys_counts_as_for_torch(base: dict[str, bytes], tmp_path: Path) -> None:
    text = base[MODEL].decode()
    assert text.count('"signature": {"input_specs"') == 1
    twice = text.replace('"signature": {"input_specs"', '"signature": [], "signature": {"input_specs"')
    path = written(base | {MODEL: twice.encode()}, tmp_path / "twice.pt2")
    once = read(written(base, tmp_path / "once.pt2"))
    assert (
        [norm.path for norm in read(path).norms]
        == [norm.path for norm in once.norms]
        == ["fold", "net.stem.1", "net.norm"]
    )


META = ("config", "net.norm.running_var", "tensor_meta")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sizes", [{"as_int": 5}]),
        ("sizes", [{"as_int": -4}]),
        ("sizes", [{"as_int": 2**62}, {"as_int": 2**62}]),
        ("sizes", [{"as_expr": {"expr_str": "s0"}}]),
        ("sizes", [{"as_int": 1}] * 100),
        ("strides", [{"as_int": 2}]),
        ("strides", [{"as_int": -1}]),
        ("strides", []),
        ("storage_offset", {"as_int": 1}),
        ("storage_offset", {"as_int": -1}),
        ("storage_offset", {"as_int": 2**63}),
        ("storage_offset", None),
        ("dtype", 8),
    ],
)
def test_tensors_outside_their_storage(base: dict[str, bytes], key: str, value: object, tmp_path: Path) -> None:
    def change(document) -> None:
        for part in META:
            document = document[part]
        document[key] = value

    refused(changed(base, WEIGHTS, change), tmp_path / "outside.pt2", r"net\.norm\.running_var")


@pytest.mark.parametrize("path_name", ["../models/model.json", "weight_999", "", "/etc/passwd"])
def test_weights_that_are_no_member(base: dict[str, bytes], path_name: str, tmp_path: Path) -> None:
    def change(document) -> None:
        document["config"]["net.norm.running_var"]["path_name"] = path_name

    refused(changed(base, WEIGHTS, change), tmp_path / "absent.pt2")


@pytest.mark.parametrize("member", [MODEL, WEIGHTS, "data/constants/model_constants_config.json", "archive_format"])
def test_missing_members(base: dict[str, bytes], member: str, tmp_path: Path) -> None:
    path = written({name: data for name, data in base.items() if name != member}, tmp_path / "missing.pt2")
    with pytest.raises(ArtifactError):
        FORMAT.read(target(path))


@pytest.mark.parametrize("write", [flat, with_pickled_weights])
def test_hostile_pickle_in_an_older_layout_is_inert(write, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    older = members(write(export(nn.BatchNorm2d(3).eval(), (3, 2, 2), "static"), tmp_path / "older.pt2"))
    torch.save({"weight": Evil()}, tmp_path / "evil.pt")
    evil = (tmp_path / "evil.pt").read_bytes()
    name = next(name for name in older if name.endswith(("serialized_state_dict.pt", "weights/model.pt")))
    subject = read(pack(tmp_path / "evil.pt2", older | {name: evil}))
    assert not (tmp_path / "ran").exists()
    assert subject.norms[0].weight is None
    for damaged in (evil[:-30], b"", b"PK\x03\x04", evil[:40]):
        path = pack(tmp_path / "damaged.pt2", older | {name: damaged})
        try:
            exhausted(path)
        except ArtifactError as error:
            assert "damaged.pt2" in str(error)


def _node(name: str, source: str, target_name: str = "torch.ops.aten.batch_norm.default") -> dict[str, object]:
    tensor = {"as_tensor": {"name": source}}
    inputs = [{"name": "input", "arg": tensor}, {"name": "running_mean", "arg": tensor}]
    inputs.append({"name": "training", "arg": {"as_bool": True}})
    return {"target": target_name, "inputs": inputs, "outputs": [{"as_tensor": {"name": name}}], "metadata": {}}


@pytest.mark.parametrize("operator", ["batch_norm", "_native_batch_norm_legit_functional", "clone"])
def test_long_chains_and_cycles_end_in_time(base: dict[str, bytes], operator: str, tmp_path: Path) -> None:
    count = 8_000
    chain = [_node(f"v{n}", f"v{n - 1}", f"torch.ops.aten.{operator}.default") for n in range(count)]
    norms = [_node(f"n{n}", f"v{count - 1 - n % 7}") for n in range(count)]

    def change(document) -> None:
        graph = document["graph_module"]["graph"]
        graph["nodes"] = [*chain, *norms, _node("v-1", f"v{count - 1}")]

    path = written(changed(base, MODEL, change), tmp_path / "chain.pt2")
    started = time.perf_counter()
    exhausted(path)
    assert time.perf_counter() - started < 20


def test_deeply_nested_graphs(base: dict[str, bytes], tmp_path: Path) -> None:
    graph: dict[str, object] = {"inputs": [], "outputs": [], "nodes": [_node("y", "x")], "tensor_values": {}}
    for _ in range(40):
        inner = {"name": "g", "arg": {"as_graph": {"name": "g", "graph": graph}}}
        node = {"target": "torch.ops.higher_order.wrap", "inputs": [inner], "outputs": [], "metadata": {}}
        graph = {"inputs": [], "outputs": [], "nodes": [node, _node("y", "x")], "tensor_values": {}}

    def change(document) -> None:
        document["graph_module"]["graph"] = graph

    subject = read(written(changed(base, MODEL, change), tmp_path / "deep.pt2"))
    assert len(subject.norms) == 41
    assert len({norm.path for norm in subject.norms}) == 41


def test_only_what_is_needed_is_read(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 400, 31), nn.BatchNorm2d(400)).eval()
    path = save(export(model, (3, 31, 31), "static"), tmp_path / "large.pt2")
    found = target(path)
    (norm,) = FORMAT.read(found).norms
    assert norm.running_mean.load() == data(model[1].running_mean)
    assert found.source.size > 4_000_000
    assert found.source.bytes_read < 100_000


def test_program_without_a_file() -> None:
    live = ModuleTarget(module=nn.BatchNorm2d(3))
    assert not FORMAT.sniff(live)
    with pytest.raises(ArtifactError):
        FORMAT.read(live)
