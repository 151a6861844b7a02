"""What the sweep says of clean networks and of planted faults, against the truth computed in float64.

The whole table, all networks with all faults, is ``python -m tests.benchmarks.mutants``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from files import measured, written
from judged import judged, observed
from mutants import FAULTS, Mutant, mutants
from networks import clean

NORM_FAULTS = (
    *("first norm in train", "middle norm in train", "last norm in train", "all norms in train"),
    *("no running statistics", "functional batch norm", "statistics move"),
)
CASES = [("resnet", fault) for fault in (*NORM_FAULTS, *FAULTS)]
CASES += [("mlp_bn1d", fault) for fault in ("first norm in train", "leak 1e-6", "capacity", "dropout left on")]
CASES += [("attention", fault) for fault in ("leak 1e-3", "sorted in the batch", "wrong reshape", "row number added")]


@cache
def planted(name: str) -> dict[str, Mutant]:
    return {mutant.fault: mutant for mutant in mutants(clean()[name])}


@pytest.mark.parametrize("name", clean())
def test_a_clean_network_is_independent(name: str) -> None:
    found = observed(clean()[name].build(), clean()[name])
    assert (found.verdict, set(found.flags) - {"mutates-state"}) == ("independent", set()), found.why
    assert [size.status for size in found.sizes] == ["ok"] * 4


@pytest.mark.parametrize(("name", "fault"), CASES)
def test_a_planted_fault_is_found_and_placed(name: str, fault: str) -> None:
    result = judged(planted(name)[fault], clean()[name])
    assert result.is_live
    assert result.is_right, result.said
    assert result.is_placed is not False, result.said


@pytest.mark.parametrize("fault", [*NORM_FAULTS, "mean over the batch", "leak 1e-3", "sorted in the batch"])
def test_the_quick_tier_finds_it_too(fault: str) -> None:
    assert judged(planted("resnet")[fault], clean()["resnet"], quick=True).is_right


@pytest.mark.parametrize("form", ["onnx", "exported-program"])
@pytest.mark.parametrize("name", ["densenet", "mlp_bn1d", "lstm_bn", "siamese", "windows", "experts"])
def test_a_clean_file_is_independent(tmp_path: Path, name: str, form: str) -> None:
    found = measured(written(clean()[name], form, tmp_path), form, threads=1)
    assert (found.verdict, found.flags) == ("independent", ()), found.why
