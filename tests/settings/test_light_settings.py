"""Settings cost nothing where there are none, and load no more than they need where there are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command import HEAVY, bn_audit_command
from torch import nn

ONLY_WITH_SETTINGS = (
    "bn_audit.settings.reading",
    "bn_audit.settings.keys",
    "bn_audit.settings.waivers",
    "bn_audit.subject.waiver",
    "bn_audit.waiving",
    "bn_audit.baseline",
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".git").mkdir()
    torch.save(nn.BatchNorm2d(4).eval(), tmp_path / "model.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(*arguments: str) -> list[str]:
    """Return the modules of the program that a check loads; none of the heavy libraries may be asked for."""
    lines = bn_audit_command("check", "model.pt", *arguments, without=HEAVY).err.splitlines()
    assert lines[-1] == "attempted: "
    return lines[-2].removeprefix("loaded: ").split(",")


def test_nothing_about_settings_is_loaded_where_there_are_none(project: Path) -> None:
    (project / "pyproject.toml").write_text("[project]\nname = 'shop'\n")
    assert [name for name in loaded() if name.startswith(ONLY_WITH_SETTINGS)] == []


def test_settings_waivers_and_baseline_need_no_heavy_library_and_no_comparison(project: Path) -> None:
    (project / "known.json").write_text('{"schema": "bn-audit.baseline.v1", "findings": []}')
    (project / "pyproject.toml").write_text(
        """
        [tool.bn-audit]
        baseline = "known.json"
        [[tool.bn-audit.waiver]]
        code = "BN101"
        layer = "stem"
        reason = "meant"
        [[tool.bn-audit.target]]
        path = "other.onnx"
        batch-sizes = [1, 2]
        inputs = ["x=float32:3"]
        """
    )
    names = loaded()
    assert {"bn_audit.settings.reading", "bn_audit.waiving", "bn_audit.baseline"} <= set(names)
    assert [name for name in names if name.startswith(("bn_audit.subject.comparison", "bn_audit.sampling."))] == []
