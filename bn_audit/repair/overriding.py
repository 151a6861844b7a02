"""Which classes do something of their own when their mode is set, as far as the file and installed sources tell.

Setting the flags is what ``nn.Module.eval()`` does. A class that overrides ``train()`` or ``eval()`` may keep a layer
in training mode on purpose or rewrite its weights (LoRA layers merge theirs), which flags alone would not do. Nothing
is imported: sources are looked up in the working directory and along ``sys.path``, and parsed.
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

MODE_METHODS = frozenset({"train", "eval"})

_PLAIN = ("torch.nn.", "torch.fx.", "torch.ao.nn.", "torch._dynamo.", "torch.jit.")
"""Packages whose modules set flags and nothing else."""

_MAX_SOURCE_BYTES = 4 << 20
_MAX_BASES = 32


def overrides_mode(type_name: str) -> str | None:
    """Return the file in whose source a class, or a base that is found, defines ``train`` or ``eval``; None otherwise.

    None also where no source is found: `has_source` tells these apart.
    """
    return _overriding(type_name, _MAX_BASES)


def has_source(type_name: str) -> bool:
    """Return whether the class's source is found here, or the class is one of PyTorch's own."""
    return type_name.startswith(_PLAIN) or _class_in(type_name) is not None


def _overriding(type_name: str, left: int) -> str | None:
    if not left or type_name.startswith(_PLAIN):
        return None
    found = _class_in(type_name)
    if found is None:
        return None
    path, definition, names = found
    if any(isinstance(item, ast.FunctionDef) and item.name in MODE_METHODS for item in definition.body):
        return path.name
    package = type_name.rpartition(".")[0]
    for base in definition.bases:
        written = ast.unparse(base)
        head, _, rest = written.partition(".")
        target = names.get(head, f"{package}.{head}")
        inherited = _overriding(f"{target}.{rest}" if rest else target, left - 1)
        if inherited is not None:
            return inherited
    return None


@cache
def _class_in(type_name: str) -> tuple[Path, ast.ClassDef, dict[str, str]] | None:
    """Return the source file of a class, its definition, and what the names imported there stand for."""
    module, _, name = type_name.rpartition(".")
    path = _source_of(module)
    if path is None or "<" in name:
        return None
    try:
        if path.stat().st_size > _MAX_SOURCE_BYTES:
            return None
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    definition = next((item for item in tree.body if isinstance(item, ast.ClassDef) and item.name == name), None)
    return None if definition is None else (path, definition, _imported(tree, module))


def _source_of(module: str) -> Path | None:
    parts = module.split(".")
    if not module or not all(part.isidentifier() for part in parts):
        return None
    for folder in (".", *sys.path):  # a console script does not have the working directory on its path
        base = Path(folder or ".").joinpath(*parts)
        for candidate in (base.with_suffix(".py"), base / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


def _imported(tree: ast.Module, module: str) -> dict[str, str]:
    names = {}
    for item in tree.body:
        if isinstance(item, ast.Import):
            for alias in item.names:
                head = alias.name.partition(".")[0]
                names[alias.asname or head] = alias.name if alias.asname else head
        elif isinstance(item, ast.ImportFrom):
            parents = module.split(".")[: -item.level] if item.level else []
            origin = ".".join([*parents, *([item.module] if item.module else [])])
            for alias in item.names:
                names[alias.asname or alias.name] = f"{origin}.{alias.name}"
    return names
