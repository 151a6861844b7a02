"""The run in the terminal: the table, its bars, the verdict of the whole."""

import io
import math
import re

import hand_made_sweeps
import pytest
from hand_made import audit, finding, report
from hand_made_sweeps import observation, size

from bn_audit.reporters._log_scale import LogScale, log_scale
from bn_audit.reporters.text import REPORTER
from bn_audit.subject.finding import Severity
from bn_audit.subject.observation import (
    CANNOT_RUN,
    CONTENT,
    INCONCLUSIVE,
    POSITION,
    RNG,
    SIZE,
    STATEFUL,
    OutputResult,
)
from bn_audit.subject.report import Failed, Skipped

STYLE = re.compile(r"\x1b\[[0-9;]*m")
BAR = re.compile(r"[▒█·┊]{24,}")


def text(of, out=None, colour=False) -> str:
    out = out or io.StringIO()
    REPORTER.render(of, out, colour)
    return out.getvalue()


def of(**changes) -> str:
    return text(audit(report(observation=observation(**changes))))


def verdict(**changes) -> str:
    (row,) = re.findall(r"^  verdict: (.*(?:\n    .*)*)", of(**changes), re.MULTILINE)
    return re.sub(r"\s+", " ", row)


def rows(output: str) -> list[list[str]]:
    table = re.split("max rel:|\n\n", output.split("  batch  status")[1])[0]
    return [row.split() for row in table.splitlines()[1:] if row.strip()]


@pytest.mark.parametrize("case", hand_made_sweeps.ALL)
@pytest.mark.parametrize("colour", [False, True])
def test_only_styles_control_the_terminal(case, colour):
    output = text(hand_made_sweeps.ALL[case], colour=colour)
    assert colour == bool(STYLE.search(output))
    assert all(row.isprintable() for row in STYLE.sub("", output).split("\n"))


@pytest.mark.parametrize("case", [case for case in hand_made_sweeps.ALL if case != "sweep_hostile"])
def test_colour_changes_no_word(case):
    coloured = STYLE.sub("", text(hand_made_sweeps.ALL[case], colour=True))
    assert [row.rstrip() for row in coloured.split("\n")] == text(hand_made_sweeps.ALL[case]).split("\n")


def test_a_name_cannot_forge_a_row_or_a_command_of_a_ci_runner():
    assert not re.search(r"^\s*(::|##\[)", text(hand_made_sweeps.HOSTILE_RUN), re.MULTILINE)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "cp437", "utf-8"])
def test_bars_are_plain_where_the_stream_has_no_others(encoding):
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding=encoding)
    REPORTER.render(hand_made_sweeps.COMPANIONS, out, False)
    out.flush()
    written = raw.getvalue().decode(encoding)
    assert ("----|###################" in written) == (encoding != "utf-8")
    assert ("▒▒▒▒┊███████████████████" in written) == (encoding == "utf-8")


def test_each_size_has_its_figures():
    found = rows(text(hand_made_sweeps.COMPANIONS))
    assert [row[:7] for row in found[:2]] == [
        ["1", "ok", "5.48", "0.731", "1", "7", "ms"],
        ["2", "ok", "2.33", "0.31", "1", "5", "ms"],
    ]
    assert found[3] == ["8", "ok", "-", "-", "-", "3.5", "ms", "reference"]
    assert rows(text(hand_made_sweeps.CRASHED)) == [["1", "failed", "crashed", "(SIGSEGV)"]]


def test_without_class_scores_there_is_no_column_for_them():
    assert "top-1" in of()
    assert "top-1" not in of(sizes=(size(1, 0.1, top1_changes=None),))


def bars(effects, floor):
    sizes = tuple(size(number, effect, samples=()) for number, effect in enumerate(effects, 1))
    return BAR.findall(of(sizes=sizes, noise_floor=floor, reference_size=None, verdict=SIZE))


def test_a_bar_is_as_long_as_its_decades():
    # The scale spans 1e-6 to 1: four columns for each decade.
    assert bars([1.0, 1e-1, 1e-3, 4e-6], None) == ["█" * 24, "█" * 20 + "·" * 4, "█" * 12 + "·" * 12, "██" + "·" * 22]


def test_what_lies_within_the_noise_never_passes_its_mark():
    within, beyond = bars([9e-5, 2e-1], 1e-4)
    assert within.index("┊") == beyond.index("┊")
    assert "█" not in within
    assert within.rindex("▒") < within.index("┊")
    assert beyond.index("█") > beyond.index("┊")


def test_what_floating_point_explains_is_quiet_even_without_a_noise_floor():
    sizes = (size(1, 1e-7), size(2, 2e-2))
    independent = BAR.findall(of(sizes=(size(1, 1e-7),), noise_floor=None))
    explained, real = BAR.findall(of(sizes=sizes, noise_floor=None, rounding_only=1e-6, verdict=SIZE))
    assert "█" not in independent[0] + explained
    assert "▒" in explained
    assert "; ▒ is floating point;" in of(sizes=(size(1, 1e-7),), noise_floor=None)
    assert "█" in real


@pytest.mark.parametrize("effect", [math.nan, math.inf])
def test_what_is_no_number_fills_the_bar(effect):
    assert bars([effect, 0.1], 1e-4)[0].endswith("█")


def test_equal_bits_have_no_bar_and_anything_else_has_one():
    assert set(bars([0.0, 0.1], None)[0]) == {"·"}
    assert bars([2e-300, 1.0], None)[0].startswith("█·")


def test_of_many_sizes_those_that_moved_most_are_shown():
    sizes = tuple(size(number, number * 1e-6, samples=()) for number in range(1, 101))
    output = of(sizes=sizes, reference_size=None)
    assert [int(row[0]) for row in rows(output)[:-1]] == list(range(77, 101))
    assert "and 76 more batch sizes" in output


def test_every_row_fits_into_eighty_columns():
    assert max(map(len, text(hand_made_sweeps.COMPANIONS).split("per sample")[1].splitlines()[1:6])) <= 80


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_narrow_terminal_wraps_and_breaks_no_bar(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    output = text(hand_made_sweeps.COMPANIONS, Terminal())
    assert max(map(len, output.splitlines())) <= 50
    assert len(BAR.findall(output)) == 4


def test_scales_hold_every_figure():
    scale = log_scale([3e-7, 0.02, 0.0, math.nan])
    assert (scale.low, scale.high) == (-8, -1)
    assert scale.share(1e-8) == scale.share(0.0) == 0.0
    assert scale.share(0.1) == scale.share(math.inf) == scale.share(math.nan) == 1.0
    assert scale.share(10**-4.5) == pytest.approx(0.5)
    assert scale.decades(8) == list(range(-8, 0))
    assert scale.decades(4) == [-7, -5, -3, -1]
    assert log_scale([]) == LogScale(low=-8, high=0)
    assert log_scale([0.5, 0.6]).high - log_scale([0.5, 0.6]).low >= 3


# The verdict on the whole.


def test_clean_says_with_what_the_model_was_run():
    assert verdict() == "clean (no findings; run at batch size 1, 2, 3, 8)"
    assert verdict(tier="quick") == "clean (no findings; run at batch size 1, 2, 3, 8, quick tier)"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"verdict": INCONCLUSIVE}, "pass (no findings; the run was inconclusive)"),
        ({"verdict": CONTENT}, "pass (no findings; in the run, an answer depends on companions)"),
        ({"verdict": POSITION}, "pass (no findings; in the run, an answer depends on position)"),
        ({"verdict": SIZE}, "pass (no findings; in the run, an answer depends on batch size)"),
        ({"flags": (RNG,)}, "pass (no findings; answers change with the random seed)"),
        ({"flags": (STATEFUL,)}, "pass (no findings; answers change with what ran before)"),
        ({"is_untrained": True}, "pass (no findings; untrained, so the run certifies nothing)"),
        ({"fixed_batch": 4}, "pass (no findings; takes no batch size but 4)"),
        (
            {"outputs": (OutputResult(name="loss", dtype="float32", shape=(), batch_axis=None),)},
            "pass (no findings; 1 of 1 output not judged)",
        ),
        (
            {"sizes": (size(1, None, status="failed"), size(8))},
            "pass (no findings; failed at batch size 1)",
        ),
        ({"verdict": CANNOT_RUN, "sizes": ()}, "INCOMPLETE (the model could not be run)"),
        (
            {"verdict": CANNOT_RUN, "sizes": (size(3, None, status="failed"), size(8))},
            "pass (no findings; failed at batch size 3)",
        ),
    ],
)
def test_nothing_is_clean_that_the_run_left_open(changes, said):
    assert verdict(**changes) == said


def test_a_finding_says_it_and_the_verdict_does_not_repeat_it():
    found = report(findings=(finding(severity=Severity.ERROR),), observation=observation(verdict=CONTENT))
    assert "verdict: FAIL (1 error)\n" in text(audit(found))
    stateful = report(findings=(finding(severity=Severity.ERROR),), observation=observation(flags=(STATEFUL, RNG)))
    assert "verdict: FAIL (1 error)\n" in text(audit(stateful))
    inconclusive = report(findings=(finding(severity=Severity.ERROR),), observation=observation(verdict=INCONCLUSIVE))
    assert "verdict: FAIL (1 error; the run was inconclusive)\n" in text(audit(inconclusive))


def test_a_failed_run_is_told_once():
    assert "verdict: INCOMPLETE (run failed)\n" in text(hand_made_sweeps.CRASHED)


def test_a_run_that_gave_nothing_is_told_once():
    failed = Failed(stage="run", error="m.pt: cannot be loaded")
    nothing = observation(verdict=CANNOT_RUN, why="m.pt: cannot be loaded", sizes=(), runner="")
    output = text(audit(report(observation=nothing, failed=(failed,))))
    assert output.count("cannot be loaded") == 1
    assert "sweep" not in output
    assert "sweep: could not be run" in text(audit(report(observation=nothing)))


def test_a_run_that_was_not_made_is_no_rule():
    skipped = (Skipped(code="run", reason="needs --trust"), Skipped(code="BN401", reason="the model was not run"))
    assert "verdict: pass (no findings; not run; 1 rule not checked)" in text(audit(report(skipped=skipped)))
    assert "verdict: pass (no findings; not run)" in text(audit(report(skipped=skipped[:1])))


def test_a_model_without_norms_that_ran_is_judged():
    output = text(audit(report(norms=(), observation=observation())))
    assert "verdict: clean (no findings; run at batch size 1, 2, 3, 8)" in output
    assert "nothing to judge" in text(audit(report(norms=())))


def test_live_randomness_limits_what_independent_means():
    assert "with a fixed seed, no sample's answer changed with its companions" in of(flags=(RNG,))
    assert "changed with its companions, its position or the number of rows\n" in of()


def test_independent_claims_only_what_was_tried():
    assert "changed with its companions or the number of rows; position not tested" in of(tier="quick")
    alone = of(tier="quick", sizes=(size(8),), fixed_batch=8)
    assert "changed with its companions; position and batch size not tested" in alone


@pytest.mark.parametrize(
    ("effect", "said"), [(0.132, "13.2%"), (1.0, "100%"), (0.0004, "0.0004"), (3e-7, "3e-07"), (math.inf, "inf")]
)
def test_an_effect_is_said_as_a_reader_would(effect, said):
    output = re.sub(r"\s+", " ", of(verdict=CONTENT, effect=effect))
    assert f"by up to {said} of its largest output" in output


def test_among_others_a_clean_model_says_with_what_it_was_run():
    output = text(audit(report("a.pt", observation=observation()), report("b.pt")))
    assert re.search(r"^a\.pt  .*: clean \(no findings; run at batch size 1, 2, 3, 8\)$", output, re.MULTILINE)
    assert re.search(r"^b\.pt  .*: clean$", output, re.MULTILINE)
