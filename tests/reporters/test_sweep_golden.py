"""What the reports say of runs made by hand; ``UPDATE_GOLDEN=1 pytest tests/reporters`` writes it anew."""

import io

import hand_made_sweeps
import pytest
from test_golden import GOLDEN, REPORTERS, assert_reviewed, without_shared

from bn_audit.version import VERSION

SHOWN = ("text", "json", "html", "markdown")


def rendered(name: str, case: str) -> str:
    out = io.StringIO()
    REPORTERS[name].render(hand_made_sweeps.ALL[case], out, False)
    return without_shared(out.getvalue().replace(VERSION, "VERSION"))


@pytest.mark.parametrize("case", hand_made_sweeps.ALL)
@pytest.mark.parametrize("name", SHOWN)
def test_output_is_as_reviewed(name, case):
    path = GOLDEN / f"{case}{REPORTERS[name].suffixes[0]}"
    assert_reviewed(path, rendered(name, case))
