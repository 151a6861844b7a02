"""What the proof says of exported programs, against what running them shows."""

from __future__ import annotations

import pytest
import torch
from aten_programs import exported, measured, proof_of
from aten_twins import MODULES, VECTORS, Case

CASES = VECTORS | MODULES
FORMS = [(dynamic, decomposed) for dynamic in (True, False) for decomposed in (False, True)]


def verdicts(case: Case, *, dynamic: bool, decomposed: bool) -> tuple[list[str], list[str]]:
    """Return what is proved and what is measured."""
    torch.manual_seed(0)
    program = exported(case.build(), case.draws, dynamic=dynamic, decomposed=decomposed)
    truth = measured(program, case.draws, dynamic=dynamic, random=case.random)
    return [flow.verdict for flow in proof_of(program).outputs], truth


@pytest.mark.parametrize("decomposed", [False, True], ids=["whole", "decomposed"])
@pytest.mark.parametrize("dynamic", [True, False], ids=["open", "fixed"])
@pytest.mark.parametrize("name", CASES)
def test_twin(name: str, dynamic: bool, decomposed: bool) -> None:
    case = CASES[name]
    if dynamic and not case.dynamic:
        pytest.skip("torch.export fixes the batch size")
    proved, truth = verdicts(case, dynamic=dynamic, decomposed=decomposed)
    expected = case.truth if dynamic or case.static is None else case.static
    assert truth == [expected]
    assert proved == (["undecided"] if case.undecided else truth)
