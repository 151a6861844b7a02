"""Every fixture that can be repaired: what the repair is about is no finding any more, and nothing new is."""

from __future__ import annotations

from pathlib import Path

import pytest

from bn_audit.repair.fixing import fix

FIXTURES = Path(__file__).parents[2] / "fixtures"
REPAIRED = {"BN101", "BN102", "BN301", "BN302", "BN309", "BN311", "BN504"}
FILES = sorted(path for path in FIXTURES.iterdir() if path.suffix in (".pt", ".onnx", ".pth", ".pkl", ".ckpt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_repaired_fixture_is_in_order(tmp_path: Path, path: Path) -> None:
    before = path.read_bytes()
    fixed = fix(path, tmp_path / path.name)
    assert path.read_bytes() == before
    found = {finding.code for report in fixed.before.reports for finding in report.findings}
    assert fixed.repair is None or bool(fixed.repair.changes) == (fixed.after is not None)
    if fixed.after is None:
        assert not (tmp_path / path.name).exists()
        return
    left = {finding.code for report in fixed.after.reports for finding in report.findings}
    refused = " ".join(fixed.repair.refused if fixed.repair is not None else ())
    assert not left & REPAIRED or refused
    assert left <= found
