"""The shape of the source: layers, plugin folders, names, sizes and heavy imports."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import bn_audit

ROOT = Path(bn_audit.__file__).parent

LAYERS = (
    {"__main__"},
    {"cli"},
    {"__init__", "audit", "judging", "options", "reference", "opening", "expansion", "inspection", "live", "repair"}
    | {"testing", "measuring", "sweeping", "configuring", "settling"},
    {"policy", "settings", "waiving", "baseline", "plugins", "formats", "rules"}
    | {"runners", "experiments", "sampling", "reporters"},
    {"interfaces", "running"},
    {"recognition"},
    {"flow", "alignment", "containers"},
    {"subject"},
    {"errors", "styled", "version"},
)
"""From the command line down; a module imports from lower layers only, and from its own package."""

SAME_LAYER = {
    ("audit", "expansion"),
    ("audit", "opening"),
    ("audit", "judging"),
    ("audit", "options"),
    ("audit", "configuring"),
    ("audit", "settling"),
    ("configuring", "options"),
    ("settling", "options"),
    ("__init__", "options"),
    ("opening", "expansion"),
    ("live", "audit"),
    ("__init__", "live"),
    ("testing", "audit"),
    ("testing", "options"),
    ("testing", "sweeping"),
    ("audit", "reference"),
    ("reference", "opening"),
    ("reference", "expansion"),
    ("reference", "options"),
    ("judging", "options"),
    ("judging", "measuring"),
    ("measuring", "expansion"),
    ("measuring", "options"),
    ("sweeping", "audit"),
    ("sweeping", "measuring"),
    ("sweeping", "options"),
    ("__init__", "sweeping"),
    ("__init__", "audit"),
    ("__init__", "repair"),
    ("repair", "audit"),
    ("repair", "expansion"),
    ("repair", "opening"),
    ("repair", "options"),
    ("repair", "waiving"),
    ("plugins", "formats"),
    ("plugins", "rules"),
    ("plugins", "reporters"),
    ("plugins", "runners"),
    ("plugins", "experiments"),
}
"""The imports between neighbours of one layer that are meant."""

NARROW = {
    "rules": {"interfaces", "subject", "errors"},
    "reporters": {"interfaces", "subject", "errors", "styled", "version"},
}
"""Packages that may import less than their layer allows."""

PLUGINS = {
    "formats": "FORMAT",
    "rules": "RULE",
    "runners": "RUNNER",
    "experiments": "EXPERIMENT",
    "reporters": "REPORTER",
}

HEAVY = {"torch", "onnx", "onnxruntime"}
NUMPY_AT_THE_TOP = {"flow", "alignment", "sampling", "experiments", "runners", "measuring", "live"}
"""Packages that the static check never loads."""

BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "base", "core", "manager", "tools"}

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 50
"""Statements and comments, without the docstring: the convention says about 40."""

LONG_FUNCTIONS = {"bn_audit.containers.inert_pickle.loop.run"}
"""An interpreter loop: a function call per opcode would take longer than the opcode."""

BOUNDARIES = {"bn_audit.audit", "bn_audit.judging", "bn_audit.__main__", "bn_audit.containers.factory"}
BOUNDARIES |= {"bn_audit.runners._torch.calling", "bn_audit.measuring.child"}
"""Where anything may be caught: one file must not end the run, nothing but the documented exit codes leaves the
program, and a factory is the user's code, which may raise anything."""


@dataclass(frozen=True)
class Import:
    importer: str
    imported: str
    top_level: bool
    line: int

    def __str__(self) -> str:
        return f"{self.importer} line {self.line} imports {self.imported}"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


@cache
def trees() -> dict[str, ast.Module]:
    return {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))}


@cache
def imports() -> tuple[Import, ...]:
    return tuple(found for name, tree in trees().items() for found in _imports_of(name, tree))


def _imports_of(name: str, tree: ast.Module) -> Iterator[Import]:
    inner = {
        node
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(outer)
    }
    typing_only = {
        node
        for outer in ast.walk(tree)
        if isinstance(outer, ast.If) and "TYPE_CHECKING" in ast.unparse(outer.test)
        for node in ast.walk(outer)
    }
    for node in ast.walk(tree):
        top_level = node not in inner and node not in typing_only
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, alias.name, top_level, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} line {node.lineno}: imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield Import(name, full if full in trees() else str(node.module), top_level, node.lineno)


def part(module: str) -> str:
    """Return the module or package directly below the root package."""
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else "__init__"


def layer(module: str) -> int:
    return next((rank for rank, names in enumerate(LAYERS) if part(module) in names), -1)


def own_imports() -> Iterator[Import]:
    return (found for found in imports() if found.imported.split(".")[0] == "bn_audit")


def test_every_part_belongs_to_a_layer() -> None:
    assert [name for name in trees() if layer(name) < 0] == []


def test_imports_point_down() -> None:
    wrong = [
        found
        for found in own_imports()
        if part(found.importer) != part(found.imported)
        and layer(found.importer) >= layer(found.imported)
        and (part(found.importer), part(found.imported)) not in SAME_LAYER
        and found.importer != "bn_audit.__main__"
    ]
    assert [str(found) for found in wrong] == []


def test_rules_and_reporters_know_only_the_contract_and_the_subject() -> None:
    wrong = [
        found
        for found in own_imports()
        if part(found.importer) in NARROW
        and part(found.imported) not in NARROW[part(found.importer)] | {part(found.importer)}
    ]
    assert [str(found) for found in wrong] == []


def is_private(module: str) -> bool:
    """True for what serves one plugin: a file or folder with an underscore before its name."""
    return any(piece.startswith("_") for piece in module.split(".")[2:])


def test_private_folders_serve_one_plugin_and_know_no_other() -> None:
    # One backend runs several formats: its runners share a folder.
    private: dict[str, set[str]] = {}
    for found in own_imports():
        pieces = found.imported.split(".")
        if part(found.imported) in PLUGINS and len(pieces) > 3 and pieces[2].startswith("_"):
            private.setdefault(".".join(pieces[:3]), set()).add(found.importer)
    for folder, importers in private.items():
        outside = {importer for importer in importers if not importer.startswith(f"{folder}.")}
        # A repair takes the same parts of a format in hand.
        outside = {importer for importer in outside if part(importer) != "repair"}
        # The backends of one framework share theirs.
        allowed = {importer for importer in outside if part(importer) == "runners" and part(folder) == "runners"}
        assert len(outside) == 1 or outside == allowed, f"{folder} is imported by {sorted(outside)}"


def test_plugins_do_not_import_each_other() -> None:
    wrong = [
        found
        for found in own_imports()
        if part(found.importer) in PLUGINS
        and part(found.imported) == part(found.importer)
        and found.imported in trees()
        and not is_private(found.imported)
    ]
    assert [str(found) for found in wrong] == []


def test_no_import_cycles() -> None:
    edges: dict[str, set[str]] = {}
    for found in own_imports():
        if found.top_level:
            edges.setdefault(found.importer, set()).add(found.imported)
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for target in sorted(edges.get(module, set()) - {module}):
                visit(target, (*path, module))
            done.add(module)

    for module in sorted(edges):
        visit(module, ())


def test_heavy_libraries_are_imported_where_they_are_needed() -> None:
    wrong = [
        found
        for found in imports()
        if found.top_level
        and (
            found.imported.split(".")[0] in HEAVY
            or (found.imported.split(".")[0] == "numpy" and part(found.importer) not in NUMPY_AT_THE_TOP)
        )
    ]
    assert [str(found) for found in wrong] == []


@pytest.mark.parametrize("folder", [folder for folder in PLUGINS if (ROOT / folder).is_dir()])
def test_every_plugin_file_defines_its_constant_and_is_documented(folder: str) -> None:
    for path in sorted((ROOT / folder).rglob("*.py")):
        if path.stem.startswith("_") or is_private(module_name(path)):
            continue
        tree = trees()[module_name(path)]
        assigned = [
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        ]
        assert assigned.count(PLUGINS[folder]) == 1, path
        assert ast.get_docstring(tree), path


def test_names_are_not_banned_and_hide_no_standard_library_module() -> None:
    stems = {path: path.stem for path in ROOT.rglob("*.py") if not path.stem.startswith("_")}
    assert [str(path) for path, stem in stems.items() if stem in BANNED_NAMES] == []
    assert [str(path) for path, stem in stems.items() if stem in sys.stdlib_module_names] == []


def test_files_stay_short() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in ROOT.rglob("*.py")
    }
    assert {name: length for name, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_functions_stay_short() -> None:
    long = {
        f"{name}.{node.name}": length
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and (length := _body_lines(node)) > MAX_FUNCTION_LINES
    }
    assert {name: length for name, length in long.items() if name not in LONG_FUNCTIONS} == {}


def _body_lines(function: ast.FunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return int(body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_no_catch_all_outside_the_boundaries() -> None:
    found = [
        f"{name} line {node.lineno}"
        for name, tree in trees().items()
        if name not in BOUNDARIES
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or {"Exception", "BaseException"} & set(ast.unparse(node.type).strip("()").split(", ")))
    ]
    assert found == []
