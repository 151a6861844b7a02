"""The same program in every layout, with several models, nested graphs and every dtype."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path

import pytest
import torch
from exported_archives import first_schema, flat, loads, members, pack, with_pickled_weights
from exported_networks import MODES, data, export, exported, quietly, read, save, target
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.export.pt2_archive._package import package_pt2

from bn_audit.errors import MalformedFileError, TensorUnavailableError
from bn_audit.formats.exported_program import FORMAT
from bn_audit.subject.norm import InputOrigin, Mode
from bn_audit.subject.subject import Subject


def plain(subject: Subject) -> dict[str, object]:
    """Return all that was read, with the bytes of the tensors in the tensors' place."""
    return {
        "facts": subject.facts,
        "random": subject.random_calls,
        "unread": subject.unread,
        "norms": [dataclasses.replace(norm.detached(), **dict.fromkeys(norm.tensors)) for norm in subject.norms],
        "norm_tensors": [
            {role: (ref.name, ref.dtype, ref.load()) for role, ref in norm.tensors.items()} for norm in subject.norms
        ],
        "models": [dataclasses.replace(model, tensors=()) for model in subject.models],
        "tensors": [
            {ref.name: (ref.dtype, ref.shape, ref.load()) for ref in model.tensors} for model in subject.models
        ],
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("write", [flat, with_pickled_weights])
@pytest.mark.parametrize("name", ["residual", "tracked_instance_norm"])
def test_older_layouts_say_the_same(name: str, write, mode: str, tmp_path: Path) -> None:
    program = exported(name, mode, "dynamic")
    older = write(program, tmp_path / "older.pt2")
    assert loads(older).graph_signature == program.graph_signature
    assert plain(read(older)) == plain(read(save(program, tmp_path / "today.pt2")))


@pytest.mark.parametrize("mode", MODES)
def test_first_schema_says_the_same(mode: str, tmp_path: Path) -> None:
    program = exported("residual", mode, "decomposed")
    found, today = (
        plain(read(path)) for path in (first_schema(program, tmp_path / "a"), save(program, tmp_path / "b"))
    )
    for said in (found, today):
        said["norms"] = [dataclasses.replace(norm, node=None) for norm in said["norms"]]
    assert found == today


def test_repacked_archive_with_compression(tmp_path: Path) -> None:
    path = save(exported("residual", "eval", "static"), tmp_path / "program.pt2")
    subject = read(pack(tmp_path / "deflated.pt2", members(path), zipfile.ZIP_DEFLATED))
    assert {norm.mode for norm in subject.norms} == {Mode.EVAL}
    with pytest.raises(MalformedFileError, match="compressed"):
        subject.norms[0].running_mean.load()


def test_several_models_each_have_a_route(tmp_path: Path) -> None:
    path = tmp_path / "several.pt2"
    programs = {"model": exported("residual", "eval", "static"), "teacher": exported("mlp", "train", "static")}
    quietly(lambda: package_pt2(path, exported_programs=programs))
    subject = read(path)
    assert [(model.route, model.mode) for model in subject.models] == [("model", Mode.EVAL), ("teacher", Mode.TRAIN)]
    assert [(norm.model, norm.path) for norm in subject.norms] == [
        ("model", "stem.1"),
        ("model", "norm"),
        ("teacher", "1"),
    ]
    for model, program in zip(subject.models, programs.values(), strict=True):
        state = {name: data(value) for name, value in program.state_dict.items()}
        assert {ref.name: ref.load() for ref in model.tensors} == state
    quietly(lambda: package_pt2(path, exported_programs={"encoder": programs["model"]}))
    assert [model.route for model in read(path).models] == ["encoder"]


class Nested(nn.Module):
    """Batch norms inside the graphs of higher-order operators."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.cast = nn.BatchNorm2d(4)
        self.chosen = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.stem(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = self.cast(x)
        return torch.cond(x.sum() > 0, lambda a: self.chosen(a), lambda a: self.chosen(a) + 1, (x,))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("decomposed", [False, True])
def test_nested_graphs(strict: bool, decomposed: bool, tmp_path: Path) -> None:
    model = Nested().eval()
    program = quietly(lambda: torch.export.export(model, (torch.randn(2, 3, 4, 4),), strict=strict))
    if decomposed:
        program = quietly(program.run_decompositions)
    subject = read(save(program, tmp_path / "nested.pt2"))
    assert [norm.path for norm in subject.norms] == ["stem.1", "cast", "chosen"]
    assert {(norm.mode, norm.uses_batch_statistics, norm.input_origin) for norm in subject.norms} == {
        (Mode.EVAL, False, InputOrigin.ACTIVATIONS)
    }
    for norm in subject.norms:
        assert norm.running_var.load() == data(model.get_submodule(norm.path).running_var)
    assert {"stem", "stem.1"} <= {node.path for node in subject.models[0].modules} or decomposed


def test_training_form_inside_a_branch(tmp_path: Path) -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            def standardise(a: Tensor) -> Tensor:
                return nn.functional.batch_norm(a, None, None, training=True)

            return torch.cond(x.sum() > 0, standardise, lambda a: a + 1, (x,))

    (norm,) = read(save(export(Branches(), (3, 4, 4), "dynamic"), tmp_path / "branches.pt2")).norms
    assert (norm.mode, norm.uses_batch_statistics) == (Mode.TRAIN, True)
    assert norm.input_origin is InputOrigin.ACTIVATIONS


DTYPES = [
    *("uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64", "bool"),
    *("float16", "bfloat16", "float32", "float64", "complex32", "complex64", "complex128"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"),
]


class Holder(nn.Module):
    """Buffers of every dtype and layout; the forward pass uses none of them."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(3)
        raw = torch.arange(64, dtype=torch.uint8)
        for dtype in DTYPES:
            values = raw % 2 == 0 if dtype == "bool" else raw.view(getattr(torch, dtype))
            self.register_buffer(f"of_{dtype}", values.clone())
        grid = torch.arange(24.0).reshape(4, 6)
        self.register_buffer("transposed", grid.t())
        self.register_buffer("column", grid[:, 2])
        self.register_buffer("row", grid[1])
        self.register_buffer("empty", torch.empty(0, 3))
        self.register_buffer("scalar", torch.tensor(3.5))
        self.register_buffer("spread", torch.tensor([2.0]).expand(5))
        self.register_buffer("hidden", torch.tensor([1.0, 2.0, 3.0]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(x)


@pytest.mark.parametrize("write", [save, flat, with_pickled_weights])
def test_tensors_of_every_dtype_and_layout(write, tmp_path: Path) -> None:
    model = quietly(lambda: Holder().eval())
    (found,) = read(write(export(model, (3,), "static"), tmp_path / "holder.pt2")).models
    state = {
        name: (str(value.dtype)[6:], tuple(value.shape), data(value)) for name, value in model.state_dict().items()
    }
    assert {ref.name: (ref.dtype, ref.shape, ref.load()) for ref in found.tensors} == state


def test_big_endian_archive(tmp_path: Path) -> None:
    path = save(exported("bare_norm", "eval", "static"), tmp_path / "program.pt2")
    little = read(path)
    swapped = {}
    for name, content in members(path).items():
        if name.endswith("/byteorder"):
            content = b"big"
        elif "/data/weights/weight_" in name:
            size = 8 if len(content) == 8 else 4  # a counter, or three floats
            content = b"".join(content[at : at + size][::-1] for at in range(0, len(content), size))
        swapped[name] = content
    big = read(pack(tmp_path / "big.pt2", swapped))
    assert plain(big) == plain(little)


def test_fake_tensors_have_no_values(tmp_path: Path) -> None:
    with FakeTensorMode():
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
        program = quietly(lambda: torch.export.export(model, (torch.randn(2, 3),)))
    (norm,) = read(save(program, tmp_path / "fake.pt2")).norms
    assert (norm.path, norm.running_mean.shape) == ("1", (4,))
    with pytest.raises(TensorUnavailableError, match="fake"):
        norm.running_mean.load()


def test_same_layer_at_two_paths(tmp_path: Path) -> None:
    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.BatchNorm2d(3)
            self.second = nn.BatchNorm2d(3)
            self.again = self.first
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.again(self.second(self.first(x)))

    for form in ("static", "decomposed"):
        norms = read(save(export(Twins().eval(), (3, 4, 4), form), tmp_path / form)).norms
        assert [(norm.path, norm.aliases) for norm in norms] == [("first", ("again",)), ("second", ())]


def test_sniff_tells_programs_from_other_archives(tmp_path: Path) -> None:
    program = save(exported("residual", "eval", "static"), tmp_path / "program.pt2")
    torch.save(nn.BatchNorm2d(3).state_dict(), tmp_path / "state.pt")
    torch.save(nn.BatchNorm2d(3), tmp_path / "module.pt")
    quietly(lambda: torch.jit.script(nn.BatchNorm2d(3)).save(tmp_path / "script.pt"))
    content = members(program)
    pack(tmp_path / "models.zip", {name: data for name, data in content.items() if "archive_format" not in name})
    compiled = {"p/archive_format": b"pt2", "p/archive_version": b"0", "p/data/aotinductor/model/m.so": b"\x7fELF"}
    pack(tmp_path / "compiled.pt2", compiled)
    (tmp_path / "text.pt2").write_text(json.dumps({"graph_module": {}}))
    others = ("state.pt", "module.pt", "script.pt", "models.zip", "compiled.pt2", "text.pt2")
    assert FORMAT.sniff(target(program))
    assert not any(FORMAT.sniff(target(tmp_path / name)) for name in others)


def test_compiled_code_beside_a_program_is_named(tmp_path: Path) -> None:
    content = members(save(exported("residual", "eval", "static"), tmp_path / "program.pt2"))
    root = next(iter(content)).partition("/")[0]
    path = pack(tmp_path / "both.pt2", content | {f"{root}/data/aotinductor/model/m.so": b"\x7fELF"})
    assert len(read(path).unread) == 1
