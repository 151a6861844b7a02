"""Archives of exported programs in the layouts of other versions of torch, and with parts replaced."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from exported_networks import quietly
from torch._export.serde.schema import SCHEMA_VERSION
from torch._export.serde.serialize import serialize


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
