"""The names that users import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bn_audit

TREE = ast.parse(Path(bn_audit.__file__).read_text(encoding="utf-8"))


def imported_for_typing() -> dict[str, str]:
    """Return the module that each name comes from, as type checkers see it."""
    (block,) = (node for node in TREE.body if isinstance(node, ast.If))
    return {
        alias.name: str(node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }


def test_type_checkers_see_what_is_public() -> None:
    assert sorted(imported_for_typing()) == sorted(bn_audit.__all__)
    assert set(bn_audit.__all__) <= set(dir(bn_audit))


@pytest.mark.parametrize("name", bn_audit.__all__)
def test_each_name_is_the_one_that_type_checkers_see(name: str) -> None:
    module = sys.modules.get(imported_for_typing()[name]) or __import__(imported_for_typing()[name], fromlist=[name])
    assert getattr(bn_audit, name) is getattr(module, name)


@pytest.mark.parametrize(
    "names",
    [
        {"check", "compare", "run", "sweep", "Options", "Report", "Finding", "Audit", "Severity", "Intent"},
        {"guard", "freeze_bn", "unfreeze_bn", "FrozenNorms", "Violation"},
        {"BnAuditError", "UsageError", "ArtifactError", "FindingsError", "BatchStatisticsError"},
    ],
)
def test_names_once_published_stay(names: set[str]) -> None:
    assert names <= set(bn_audit.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'chek'"):
        _ = bn_audit.chek  # type: ignore[attr-defined]


def test_the_package_and_its_assertions_import_no_torch() -> None:
    code = (
        "import sys, bn_audit, bn_audit.testing\nbn_audit.guard, bn_audit.freeze_bn\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
