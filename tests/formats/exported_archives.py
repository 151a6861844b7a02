"""Archives of exported programs in the layouts of other versions of torch, and with parts changed."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import torch
from exported_networks import Residual, export, quietly, save, target
from torch import Tensor, nn
from torch._export.serde.schema import SCHEMA_VERSION
from torch._export.serde.serialize import serialize

from bn_audit.errors import ArtifactError
from bn_audit.formats.exported_program import FORMAT
from bn_audit.subject.tensor import ITEM_SIZES


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(path: Path, content: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def flat(program: torch.export.ExportedProgram, path: Path) -> Path:
    """Write the layout of torch 2.2 to 2.7, as ``torch.export.save`` did."""
    parts = quietly(lambda: serialize(program))
    content = {
        "serialized_exported_program.json": parts.exported_program,
        "serialized_state_dict.pt": parts.state_dict,
        "serialized_constants.pt": parts.constants,
        "serialized_example_inputs.pt": parts.example_inputs,
        "version": ".".join(map(str, SCHEMA_VERSION)).encode(),
    }
    return pack(path, content)


def with_pickled_weights(program: torch.export.ExportedProgram, path: Path) -> Path:
    """Write the layout of torch 2.8: today's archive, with the state dict in one file of ``torch.save``."""
    quietly(lambda: torch.export.save(program, path))
    parts = quietly(lambda: serialize(program))
    content = members(path)
    root = next(iter(content)).partition("/")[0]
    kept = {name: data for name, data in content.items() if not name.startswith((f"{root}/data/weights/",))}
    kept = {name: data for name, data in kept.items() if not name.startswith(f"{root}/data/constants/")}
    kept[f"{root}/data/weights/model.pt"] = parts.state_dict
    kept[f"{root}/data/constants/model.pt"] = parts.constants
    return pack(path, kept)


def first_schema(program: torch.export.ExportedProgram, path: Path) -> Path:
    """Write the layout of torch 2.1: another signature, nested tensor metadata, unions with all their keys."""
    parts = quietly(lambda: serialize(program))
    document = json.loads(parts.exported_program)
    module = document["graph_module"]
    signature: dict[str, object] = {"inputs_to_parameters": {}, "inputs_to_buffers": {}, "user_inputs": []}
    for spec in module["signature"]["input_specs"]:
        ((kind, content),) = spec.items()
        if kind == "user_input":
            signature["user_inputs"].append(content["arg"]["as_tensor"]["name"])
        else:
            signature[f"inputs_to_{kind}s"][content["arg"]["name"]] = content[f"{kind}_name"]
    module["signature"] = signature
    graph = module["graph"]
    graph["tensor_values"] = {name: {"meta": meta} for name, meta in graph["tensor_values"].items()}
    for node in graph["nodes"]:
        del node["name"]
        for argument in node["inputs"]:
            del argument["kind"]
            argument["arg"] = {"as_none": None, "as_ints": None, **argument["arg"]}
            if argument["arg"]["as_none"] is True:
                argument["arg"]["as_none"] = []
    content = {
        "serialized_exported_program.json": json.dumps(document).encode(),
        "serialized_state_dict.json": parts.state_dict,
        "version": b"1",
    }
    return pack(path, content)


def loads(path: Path) -> torch.export.ExportedProgram:
    return quietly(lambda: torch.export.load(io.BytesIO(path.read_bytes())))


MODEL, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"


class Varied(nn.Module):
    """A bit of everything that the reader looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Residual()
        self.fold = nn.InstanceNorm2d(3, affine=True)
        self.scale = torch.ones(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.dropout(self.fold(x * self.scale), 0.5)
        with torch.no_grad():
            x = self.net.stem[0](x)
        x = torch.cond(x.sum() > 0, lambda a: self.net.stem[1](a), lambda a: a.clone(), (x,))
        x = nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=0.1)
        return self.net.head(self.net.norm(self.net.conv(x)).mean((2, 3)))


@cache
def base_parts(tmp: Path) -> dict[str, bytes]:
    """Return the members of a program by name below the root, with the names of the modules as its only texts."""
    path = save(export(Varied().eval(), (3, 4, 4), "decomposed"), tmp / "base.pt2")
    parts = {name.partition("/")[2]: data for name, data in members(path).items()}
    document = json.loads(parts[MODEL])
    pending = [document["graph_module"]["graph"]]
    for graph in pending:
        for node in graph["nodes"]:
            # Mutations shall hit what is read, not the texts that fill most of the file.
            node["metadata"] = {"nn_module_stack": node["metadata"].get("nn_module_stack", "")}
            pending.extend(item["arg"]["as_graph"]["graph"] for item in node["inputs"] if "as_graph" in item["arg"])
    return parts | {MODEL: json.dumps(document).encode()}


def written(parts: dict[str, bytes], path: Path) -> Path:
    return pack(path, {f"root/{name}": data for name, data in parts.items()})


def exhausted(path: Path) -> None:
    """Read everything that can be read; raise what a reader raises."""
    found = target(path)
    if not FORMAT.sniff(found):
        return
    subject = FORMAT.read(found)
    for ref in (ref for model in subject.models for ref in model.tensors):
        try:
            assert len(ref.load()) == ref.numel * ITEM_SIZES[ref.dtype]
        except ArtifactError as error:
            assert str(error)
    assert all(isinstance(norm.path, str) for norm in subject.norms)
    found.source.close()


def changed(parts: dict[str, bytes], member: str, change: Callable[[object], None]) -> dict[str, bytes]:
    document = json.loads(parts[member])
    change(document)
    return parts | {member: json.dumps(document).encode()}
