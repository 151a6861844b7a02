"""Module paths and classes behind the nodes of an ONNX graph, as PyTorch's exporters write them.

Two ways: metadata of each node (``torch.onnx.export`` with ``dynamo=True``), and node names made of scopes
(``/layer1/layer1.0/bn1/BatchNormalization``, the exporter before it, since torch 1.12).

Source: torch 2.13 ``onnx/_internal/exporter/_core.py`` (``_set_node_metadata``) and
``onnx/_internal/torchscript_exporter/onnx_proto_utils.py``; ``jit/passes/onnx/naming.cpp``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_CLASS = re.compile(r"[A-Za-z_][\w<>]*(\.[\w<>]+)+")
_ROLES = {
    "weight": "weight",
    "gamma": "weight",
    "scale": "weight",
    "bias": "bias",
    "beta": "bias",
    "running_mean": "running_mean",
    "moving_mean": "running_mean",
    "running_var": "running_var",
    "moving_variance": "running_var",
    "moving_var": "running_var",
}
"""The last part of a parameter's name, by what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in the exported module a node comes from.

    Attributes:
        path: Module path; ``""`` where not recorded.
        type_name: Class of that module; None where not recorded.
        root: Class of the exported module; None where not recorded.
    """

    path: str = ""
    type_name: str | None = None
    root: str | None = None


def place_of(name: str, metadata: Mapping[str, str]) -> Place:
    """Return the place of a node by its metadata, else by its name."""
    scopes, classes = _listed(metadata, "name_scopes"), _listed(metadata, "class_hierarchy")
    if not scopes and "namespace" in metadata:
        pairs = [part.partition(": ") for part in metadata["namespace"].split("/")]
        scopes, classes = [pair[0].strip() for pair in pairs], [pair[2] for pair in pairs]
    if len(scopes) > 1:
        known = len(classes) == len(scopes)
        return Place(
            path=scopes[-2],
            type_name=_class(classes[-2]) if known else None,
            root=_class(classes[0]) if known else None,
        )
    return Place(path=_scoped_path(name))


def _listed(metadata: Mapping[str, str], key: str) -> list[str]:
    """Return a list of texts that is written as Python writes it."""
    return [match[1] or match[2] or "" for match in _QUOTED.finditer(metadata.get(f"pkg.torch.onnx.{key}", ""))]


def _class(text: str) -> str | None:
    return text if _CLASS.fullmatch(text) else None


def _scoped_path(name: str) -> str:
    """Return the module path in a node name made of scopes; each scope may begin with the one before it."""
    parts = name.split("/")
    if len(parts) < 3 or parts[0]:
        return ""
    path: list[str] = []
    for part in parts[1:-1]:
        if path and part.startswith(f"{path[-1]}."):
            path[-1] = part
        elif part:
            path.append(part)
    return ".".join(path)


def role_and_path(name: str) -> tuple[str, str] | None:
    """Return (role, module path) of a parameter or buffer by its name; None for any other name."""
    path, _, last = name.rpartition(".")
    role = _ROLES.get(last)
    return (role, path) if role is not None and path else None


def layer_path(names: Mapping[str, str], place: Place, node: str) -> str:
    """Return the module path of a norm layer: by its tensors' names, else as the file records it, else `node`.

    Names come first, for a functional call stands in the module around it.
    """
    parsed = {role: role_and_path(name) for role, name in names.items()}
    agreeing = [pair[1] for role, pair in parsed.items() if pair is not None and pair[0] == role]
    if agreeing:
        return max(dict.fromkeys(agreeing), key=agreeing.count)
    return place.path or node
