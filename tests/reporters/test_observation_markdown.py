"""The run in a comment: what was measured, short enough, and no name is markup."""

import io

import hand_made
import hand_made_sweeps
from hand_made import audit, report
from hand_made_sweeps import observation, size

from bn_audit.reporters.markdown import REPORTER


def written(of) -> str:
    out = io.StringIO()
    REPORTER.render(of, out, False)
    return out.getvalue()


def test_the_figures_of_each_size_are_a_table():
    told = written(hand_made_sweeps.COMPANIONS)
    assert "| 1 | ok | 5.48 | 0.731 | 1 | 7 ms |" in told
    assert "| 8 | the others are compared with it | - | - | - | 3.5 ms |" in told
    assert "`bn-audit sweep model.pt --trust --batch-sizes 1,2,3,8 --seed 0`" in told
    assert "**depends on companions** a sample's answer changes" in told


def test_a_size_that_failed_says_why():
    assert "| 1 | failed: crashed (SIGSEGV) | - | - | - |" in written(hand_made_sweeps.CRASHED)


def test_without_a_run_nothing_is_said_of_one():
    assert "batch size" not in written(hand_made.CLEAN)


def test_many_sizes_and_many_models_stay_within_one_comment():
    sizes = tuple(size(number, 0.1) for number in range(1, 200))
    many = [report(f"m{number}.onnx", observation=observation(sizes=sizes)) for number in range(60)]
    told = written(audit(*many))
    assert "and 175 more batch sizes" in told
    assert len(told) <= 65_536


def test_a_name_breaks_no_row_of_a_table():
    error = "a | b\n| c <img src=x> @everyone"
    told = written(audit(report(observation=observation(sizes=(size(2, None, status="failed", error=error),)))))
    (row,) = [row for row in told.splitlines() if row.startswith("| 2 |")]
    assert row.count("|") == 7
    assert "<img" not in told
    assert "@everyone" not in told
