"""JUnit XML, read back by a JUnit parser and by a plain XML parser."""

import io
from dataclasses import replace
from xml.etree import ElementTree

import hand_made
import junitparser
import pytest
from hand_made import audit, finding, report

from bn_audit import plugins
from bn_audit.reporters.junit import REPORTER
from bn_audit.styled import clean
from bn_audit.subject.finding import Intent, Location, Severity
from bn_audit.subject.report import Failed, Skipped

RULES = tuple(rule.described(Intent.DEPLOY) for rule in plugins.rules())


def written(of) -> str:
    out = io.StringIO()
    REPORTER.render(replace(of, rules=of.rules or RULES), out, False)
    return out.getvalue()


def suites(of) -> list[junitparser.TestSuite]:
    return list(junitparser.JUnitXml.fromstring(written(of).encode("ascii")))


def outcomes(of) -> dict[str, str]:
    """Return the outcome of each case of the only source."""
    (suite,) = suites(of)
    return {case.name: _outcome(case) for case in suite}


def _outcome(case: junitparser.TestCase) -> str:
    assert len(case.result) <= 1
    return type(case.result[0]).__name__ if case.result else "passed"


@pytest.mark.parametrize("case", hand_made.ALL)
def test_counts_are_those_of_the_cases(case):
    whole = junitparser.JUnitXml.fromstring(written(hand_made.ALL[case]).encode("ascii"))
    assert len(list(whole)) == len(hand_made.ALL[case].reports)
    for suite in whole:
        kinds = [_outcome(item) for item in suite]
        expected = (len(kinds), kinds.count("Failure"), kinds.count("Error"), kinds.count("Skipped"))
        assert (suite.tests, suite.failures, suite.errors, suite.skipped) == expected
    totals = [sum(getattr(suite, key) for suite in whole) for key in ("tests", "failures", "errors", "skipped")]
    assert [whole.tests, whole.failures, whole.errors, whole.skipped] == totals


def test_each_rule_that_looked_has_a_case():
    of = audit(report(checked=("BN101", "BN102", "BN205"), findings=(finding(),)))
    assert outcomes(of) == {
        "read": "passed",
        "BN101 train-mode": "Failure",
        "BN102 mixed-mode": "passed",
        "BN205 non-finite-statistics": "passed",
    }


@pytest.mark.parametrize(
    ("fail_on", "expected"),
    [
        (Severity.ERROR, ["Failure", "passed", "passed"]),
        (Severity.WARNING, ["Failure", "Failure", "passed"]),
        (Severity.NOTE, ["Failure", "Failure", "Failure"]),
    ],
)
def test_findings_fail_from_the_level_of_the_gate_on(fail_on, expected):
    found = (
        finding(),
        finding("BN314", Severity.WARNING, name="sync-batchnorm-deployed", message="a warning"),
        finding("BN111", Severity.NOTE, name="mode-not-recorded", message="a note"),
    )
    of = audit(report(findings=found), fail_on=fail_on)
    kinds = outcomes(of)
    names = ("BN101 train-mode", "BN314 sync-batchnorm-deployed", "BN111 mode-not-recorded")
    assert [kinds[name] for name in names] == expected
    (suite,) = suites(of)
    quiet = [case.system_out for case in suite if case.system_out]
    assert len(quiet) == expected.count("passed")
    assert all("fix: " in text and "where: bn{1,2}" in text for text in quiet)


def test_a_failure_says_what_where_and_what_to_do():
    (suite,) = suites(audit(report(findings=(finding(),))))
    (failure,) = next(case for case in suite if case.name.startswith("BN101")).result
    assert failure.message == "2 of 2 batch norms are in training mode"
    assert failure.text.splitlines() == [
        "error: 2 of 2 batch norms are in training mode",
        "where: bn{1,2}",
        "fix: Call model.eval() before saving.",
    ]


def test_two_findings_of_a_rule_are_one_case():
    of = audit(report(findings=(finding(), finding(message="the teacher as well"))))
    (suite,) = suites(of)
    (case,) = [case for case in suite if case.name.startswith("BN101")]
    assert case.result[0].message == "2 of 2 batch norms are in training mode; the teacher as well"


def test_what_was_not_checked_is_skipped_and_what_failed_is_an_error():
    of = audit(
        report(
            checked=("BN205",),
            skipped=(Skipped(code="BN101", reason="no mode"), Skipped(code="BN205", reason="one layer lacks values")),
            failed=(Failed(stage="BN211", error="counter is no number"), Failed(stage="batch-flow", error="a fault")),
            unread=("optimizer",),
        )
    )
    assert outcomes(of) == {
        "read": "Skipped",
        "batch-flow": "Error",
        "BN101 train-mode": "Skipped",
        "BN205 non-finite-statistics": "Skipped",
        "BN211 uneven-batch-counters": "Error",
    }


def test_a_rule_that_found_something_and_left_something_open_fails():
    of = audit(report(findings=(finding(),), skipped=(Skipped(code="BN101", reason="the rest"),)))
    assert outcomes(of)["BN101 train-mode"] == "Failure"
    assert "not checked: the rest" in written(of)


def test_a_file_that_cannot_be_read_is_an_error():
    of = audit(report("nix.pt", format=None, failed=(Failed(stage="read", error="nix.pt: is missing"),)), exit_code=3)
    assert outcomes(of) == {"read": "Error"}


def test_accepted_findings_pass_with_their_reason():
    assert set(outcomes(hand_made.ACCEPTED).values()) == {"passed"}
    (suite,) = suites(hand_made.ACCEPTED)
    told = {case.name: case.system_out for case in suite if case.system_out}
    assert told["BN101 train-mode"].startswith("waived (batch-statistics): pix2pix does so by design\n")
    assert told["BN504 live-randomness-in-graph"].startswith("waived until 2031-12-31: until the next export\n")
    assert told["BN205 non-finite-statistics"].startswith("known, in the baseline:\n")


def test_cases_of_two_files_are_told_apart():
    names = [(case.classname, case.name) for suite in suites(hand_made.EVERYTHING) for case in suite]
    assert len(set(names)) == len(names)
    assert all("." not in classname.removeprefix("bn-audit.") for classname, _ in names)
    files = {case._elem.get("file") for suite in suites(hand_made.EVERYTHING) for case in suite}
    assert files == {"runs/7/checkpoint.ckpt", "broken.pt", "good.pt"}


@pytest.mark.parametrize(
    "name", [hand_made.HOSTILE, "\0\x08\x0b\x1f\ufffe\uffff", "]]></testcase>", "<&>\"'", "\ud800", "a\nb\tc"]
)
def test_no_name_breaks_the_document(name):
    places = (Location(path=name),)
    of = audit(
        report(
            name,
            findings=(finding(message=name, remedy=name, locations=places),),
            skipped=(Skipped(code="BN102", reason=name),),
            failed=(Failed(stage="BN211", error=name, traceback=name),),
            unread=(name,),
        )
    )
    root = ElementTree.fromstring(written(of))
    assert sorted({element.tag for element in root.iter()}) == sorted(
        ["testsuites", "testsuite", "properties", "property", "testcase", "failure", "skipped", "error", "system-out"]
    )
    (failure,) = root.iter("failure")
    assert failure.get("message") == clean(name)
    assert failure.text == f"error: {clean(name)}\nwhere: {clean(name)}\nfix: {clean(name)}"
