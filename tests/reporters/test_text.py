import io
import re

import hand_made
import pytest
from hand_made import HOSTILE, audit, comparison, drift, finding, norm, pair, report

from bn_audit.reporters.text import REPORTER
from bn_audit.subject.comparison import NotCompared, ValueComparison
from bn_audit.subject.drift import Change, LayerDrift
from bn_audit.subject.finding import Location, Severity
from bn_audit.subject.key_alignment import KeyAlignment
from bn_audit.subject.norm import Mode
from bn_audit.subject.report import Failed, Skipped
from bn_audit.subject.scope import ValueScope
from bn_audit.subject.subject import Form, Model

STYLE = re.compile(r"\x1b\[[0-9;]*m")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def text(of, out=None, colour=False) -> str:
    out = out or io.StringIO()
    REPORTER.render(of, out, colour)
    return out.getvalue()


def verdicts(of) -> list[str]:
    return re.findall(r"^ *verdict: (.*)$", text(of), re.MULTILINE)


@pytest.mark.parametrize("case", hand_made.ALL)
@pytest.mark.parametrize("colour", [False, True])
def test_only_styles_control_the_terminal(case, colour):
    output = text(hand_made.ALL[case], colour=colour)
    assert colour == bool(STYLE.search(output))
    assert all(row.isprintable() for row in STYLE.sub("", output).split("\n"))


@pytest.mark.parametrize("case", [case for case in hand_made.ALL if case != "hostile_names"])
def test_colour_changes_no_word(case):
    coloured = STYLE.sub("", text(hand_made.ALL[case], colour=True))
    assert [row.rstrip() for row in coloured.split("\n")] == text(hand_made.ALL[case]).split("\n")


def test_a_name_cannot_forge_a_row_or_a_command_of_a_ci_runner():
    output = text(hand_made.HOSTILE_NAMES)
    assert not re.search(r"^\s*(::|##\[)", output, re.MULTILINE)
    forged = report(findings=(finding(message="a " * 70 + "::error::b ##[error]c"),))
    assert not re.search(r"^\s*::|##\[", text(audit(forged)), re.MULTILINE)


def test_markup_of_a_name_is_shown_and_not_obeyed():
    assert "[red]x[/red]" in STYLE.sub("", text(hand_made.HOSTILE_NAMES, colour=True))


def test_a_huge_name_is_cut():
    huge = "x" * 10_000_000
    output = text(audit(report(huge, findings=(finding(message=huge, locations=(Location(path=huge),)),))))
    assert len(output) < 10_000


@pytest.mark.parametrize("columns", [10, 40, 80, 200])
def test_rows_fit_the_terminal_and_words_stay_whole(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    output = text(hand_made.EVERYTHING, Terminal())
    words = text(hand_made.EVERYTHING).split()
    assert output.split() == words
    widest = max(40, min(columns, 120))
    for row in output.splitlines():
        assert len(row) <= widest or len(row.split()) <= 2


def test_nothing_is_wrapped_inside_a_path_when_piped():
    path = "/".join(["directory"] * 40) + "/model.pt"
    assert text(audit(report(path))).startswith(path + "\n")


def test_findings_are_sorted_by_severity():
    mixed = report(
        findings=(
            finding("BN111", Severity.NOTE),
            finding("BN314", Severity.WARNING),
            finding("BN101", Severity.ERROR),
        )
    )
    assert re.findall(r"^  (\w+) BN", text(audit(mixed)), re.MULTILINE) == ["error", "warning", "note"]


def test_the_hint_names_each_code_once():
    two = audit(report("a.pt", findings=(finding(),)), report("b.pt", findings=(finding(), finding("BN205"))))
    assert text(two).count("bn-audit explain") == 1
    assert "bn-audit explain BN101  tells why the rule exists and what to do (also BN205)" in text(two)


def test_rules_without_an_answer_are_grouped_by_reason():
    assert "not checked: BN101, BN102 (the artifact records no train/eval mode)" in text(hand_made.STATE_DICT)


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (report(), "clean (no findings)"),
        (report(norms=()), "nothing to judge (no batch or instance norms in it)"),
        (
            report(norms=(), models=(Model(route="", form=Form.STATE_DICT),)),
            "nothing to judge (no running statistics in it: no batch norms, or theirs are missing)",
        ),
        (report(findings=(finding(),)), "FAIL (1 error)"),
        (report(findings=(finding(severity=Severity.WARNING),)), "pass (1 warning)"),
        (report(skipped=(Skipped(code="BN308", reason="no graph"),)), "pass (no findings; 1 rule not checked)"),
        (report(deselected=("BN101", "BN102")), "pass (no findings; 2 rules not selected)"),
        (report(unread=("part",)), "pass (no findings; 1 part not read)"),
        (
            report(norms=(norm("a"), norm("b", Mode.UNKNOWN))),
            "pass (no findings; train/eval mode not recorded for 1 of 2 batch norms)",
        ),
        (
            report(norms=(norm("a", Mode.CALLER),)),
            "pass (no findings; train/eval mode decided by the caller for 1 of 1 batch norm)",
        ),
        (
            report(norms=(), unread=("x",)),
            "pass (no findings; 1 part not read; no batch or instance norms in what was read)",
        ),
        (report(failed=(Failed(stage="BN205", error="x"),)), "INCOMPLETE (BN205 failed)"),
        (
            report(format=None, norms=(), failed=(Failed(stage="read", error="x"),)),
            "NOT AUDITED (it could not be read)",
        ),
        (
            report(findings=(finding(),), failed=(Failed(stage="BN205", error="x"),)),
            "FAIL (1 error; BN205 failed)",
        ),
    ],
)
def test_verdict(subject, expected):
    assert verdicts(audit(subject)) == [expected]


GAP = NotCompared(what="conv.weight", reason="it was not read")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "match (values compared: 2 norm layers, 1 further tensor)"),
        (
            {"values": ValueComparison(scope=ValueScope.BATCH_NORM, not_compared=(GAP, GAP))},
            "pass (no findings; 2 parts not compared)",
        ),
        (
            {"drift": (), "pairs": (), "values": ValueComparison(scope=ValueScope.BATCH_NORM)},
            "pass (no findings; no values compared)",
        ),
        ({"drift": (drift("a"), drift("b", mean=1.0))}, "pass (no findings; 1 layer not the same)"),
        (
            {"drift": (drift("a", eps=Change(reference=1e-5, target=1e-3)),)},
            "pass (no findings; 1 layer not the same)",
        ),
        ({"pairs": (pair("a", paired_by=None),)}, "pass (no findings; 1 layer on one side only)"),
        ({"added": (norm("a"), norm("b"))}, "pass (no findings; 2 layers on one side only)"),
        (
            {"keys": (KeyAlignment(reference="a", target="b", missing=("x",), unexpected=("y",)),)},
            "pass (no findings; 2 tensors missing, unexpected or of another shape or dtype)",
        ),
    ],
)
def test_two_artifacts_match_where_everything_was_compared_and_nothing_differs(changes, expected):
    compared = report(comparison=comparison(**changes), comparison_only=True)
    assert verdicts(audit(compared)) == [expected]


def test_findings_stand_for_the_differences_that_they_name():
    compared = report(comparison=comparison(drift=(drift("a", mean=1.0),)), comparison_only=True, findings=(finding(),))
    assert verdicts(audit(compared)) == ["FAIL (1 error)"]


def test_a_comparison_says_nothing_about_modes_and_a_gate_does():
    unknown = (norm("a", Mode.UNKNOWN),)
    alone = report(norms=unknown, comparison=comparison(), comparison_only=True)
    gate = report(norms=unknown, comparison=comparison())
    assert verdicts(audit(alone)) == ["match (values compared: 2 norm layers, 1 further tensor)"]
    assert verdicts(audit(gate)) == [
        "pass (no findings; train/eval mode not recorded for 1 of 1 batch norm)",
    ]
    assert verdicts(audit(report(comparison=comparison()))) == ["clean (no findings)"]


def test_what_could_not_be_compared_was_not_audited():
    failed = report(comparison_only=True, failed=(Failed(stage="compare", error="nothing in common"),))
    assert verdicts(audit(failed)) == ["NOT AUDITED (the two could not be compared)"]
    gate = report(failed=(Failed(stage="compare", error="nothing in common"),))
    assert verdicts(audit(gate)) == ["INCOMPLETE (compare failed)"]


def table(of) -> list[str]:
    rows = text(of).splitlines()
    start = next(number for number, row in enumerate(rows) if row.startswith("    layer "))
    return [row.split()[0] for row in rows[start + 1 :] if row.startswith("    ")]


def test_the_table_shows_the_layers_that_moved_most():
    moved = comparison(drift=tuple(drift(f"l{number}", mean=number) for number in range(40)))
    assert table(audit(report(comparison=moved)))[:12] == [f"l{number}" for number in range(39, 27, -1)]
    assert "and 27 more layers that differ less" in text(audit(report(comparison=moved)))


def test_equal_reasons_are_told_once_without_the_names_that_differ():
    gaps = tuple(
        NotCompared(what=f"norm layer l{n}.bn", reason=f"l{n}.bn.weight: the meta device has no values")
        for n in range(5)
    )
    absent = comparison(
        drift=tuple(LayerDrift(reference="a", location=Location(path="a"), num_features=1) for _ in gaps),
        values=ValueComparison(scope=ValueScope.ALL, not_compared=gaps),
    )
    output = text(audit(report(comparison=absent)))
    assert "not compared: 5 parts: norm layer l{0-4}.bn (the meta device has no values)" in output
    assert "drift: 5 layers without values to compare" in output


def test_a_table_of_nothing_is_a_sentence():
    assert "drift: nothing beyond rounding in 2 layers" in text(hand_made.MATCHING)
    assert "mean/sd" not in text(hand_made.MATCHING)


def test_the_verdict_follows_the_level_that_fails():
    warned = report(findings=(finding(severity=Severity.WARNING),))
    assert verdicts(audit(warned, fail_on=Severity.WARNING)) == ["FAIL (1 warning)"]


def test_strict_says_why_it_fails():
    open_ended = report(skipped=(Skipped(code="BN308", reason="no graph"),))
    assert "--strict" in text(audit(open_ended, exit_code=3))
    assert "--strict" not in text(audit(open_ended, exit_code=0))


def test_a_fault_of_the_tool_shows_its_traceback():
    failed = report(failed=(Failed(stage="BN205", error="x", traceback=f'File "a.py"\n{HOSTILE}'),))
    assert '    File "a.py"' in text(audit(failed))
