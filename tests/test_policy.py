"""Selection, severity by intent, superseded findings and exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bn_audit import policy
from bn_audit.errors import UsageError
from bn_audit.interfaces import Rule
from bn_audit.subject.comparison import FrozenPattern
from bn_audit.subject.finding import Finding, Intent, Location, Severity
from bn_audit.subject.report import Failed, Report, Skipped
from bn_audit.subject.subject import Facts, Subject


def nothing(_subject: Subject) -> Iterator[Finding]:
    return iter(())


def rule(
    code: str,
    severity: Severity = Severity.ERROR,
    *,
    overrides: dict[Intent, Severity] | None = None,
    supersedes: tuple[str, ...] = (),
) -> Rule:
    return Rule(
        code=code,
        name="a-name",
        summary="a summary",
        severity=severity,
        remedy="do something",
        check=nothing,
        overrides=overrides or {},
        supersedes=supersedes,
    )


def at(*paths: str) -> tuple[Location, ...]:
    return tuple(Location(path=path) for path in paths)


RULES = (
    rule("BN101", overrides={Intent.RESUME: Severity.NOTE}),
    rule("BN102", supersedes=("BN101",)),
    rule("BN204", Severity.WARNING),
)


@pytest.mark.parametrize(
    ("select", "ignore", "expected"),
    [
        ((), (), ["BN101", "BN102", "BN204"]),
        (("BN1",), (), ["BN101", "BN102"]),
        (("BN101", "BN204"), (), ["BN101", "BN204"]),
        ((), ("BN1",), ["BN204"]),
        (("BN1",), ("BN102",), ["BN101"]),
    ],
)
def test_rules_are_selected_by_prefix(select: tuple[str, ...], ignore: tuple[str, ...], expected: list[str]) -> None:
    assert [item.code for item in policy.select_rules(RULES, select, ignore)] == expected


def test_an_unknown_code_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean BN101"):
        policy.select_rules(RULES, ["BN1011"], [])
    with pytest.raises(UsageError, match="no rule code begins with 'zzz'"):
        policy.select_rules(RULES, [], ["zzz"])


@pytest.mark.parametrize(
    ("intent", "expected"),
    [(Intent.DEPLOY, Severity.ERROR), (Intent.RESUME, Severity.NOTE), (Intent.FINETUNE, Severity.ERROR)],
)
def test_the_intent_decides_the_severity(intent: Intent, expected: Severity) -> None:
    (finding,) = policy.judge([RULES[0].finding("x", locations=at("bn"))], RULES, intent)
    assert finding.severity is expected


def test_a_severity_given_by_the_rule_itself_stands_for_every_intent() -> None:
    given = RULES[0].finding("x", severity=Severity.WARNING)
    (finding,) = policy.judge([given], RULES, Intent.RESUME)
    assert finding.severity is Severity.WARNING


def test_a_superseded_finding_loses_the_layers_that_the_other_explains() -> None:
    findings = [
        RULES[0].finding("train", locations=at("a", "b")),
        RULES[1].finding("mixed", locations=at("a")),
        RULES[0].finding("other model", locations=(Location(model="ema", path="a"),)),
    ]
    judged = policy.judge(findings, RULES, Intent.DEPLOY)
    assert [(item.code, item.locations) for item in judged] == [
        ("BN101", at("b")),
        ("BN101", (Location(model="ema", path="a"),)),
        ("BN102", at("a")),
    ]
    assert [item.message for item in judged] == ["train; 1 of these is told by BN102", "other model", "mixed"]


FROZEN_RULES = (
    rule("BN101", overrides={Intent.RESUME: Severity.NOTE, Intent.FINETUNE: Severity.NOTE}),
    rule("BN102", overrides={Intent.RESUME: Severity.NOTE, Intent.FINETUNE: Severity.NOTE}, supersedes=("BN101",)),
    rule("BN204", Severity.WARNING, overrides={Intent.FINETUNE: Severity.NOTE}),
)


def claimed(*paths: str) -> tuple[FrozenPattern, ...]:
    return (FrozenPattern(pattern="x"), FrozenPattern(pattern="y.*", layers=at(*paths)))


@pytest.mark.parametrize("code", [0, 1])
def test_training_mode_stays_an_error_for_the_layers_claimed_frozen(code: int) -> None:
    finding = FROZEN_RULES[code].finding("4 of 9 train", locations=at("a", "b", "c", "d"), evidence={"training": 4})
    judged = policy.judge([finding], FROZEN_RULES, Intent.FINETUNE, claimed("d", "b", "z"))
    assert [(item.severity, item.locations) for item in judged] == [
        (Severity.ERROR, at("b", "d")),
        (Severity.NOTE, at("a", "c")),
    ]
    assert judged[0].message == "4 of 9 train, and 2 of these 4 are claimed frozen"
    assert judged[0].evidence == {"training": 4, "claimed_frozen": 2}
    assert "eval()" in judged[0].remedy
    assert (judged[1].message, judged[1].evidence) == ("4 of 9 train", {"training": 4})


def test_a_finding_about_nothing_but_frozen_layers_is_one_error() -> None:
    (finding,) = policy.judge(
        [FROZEN_RULES[0].finding("train", locations=at("a", "b"))], FROZEN_RULES, Intent.FINETUNE, claimed("a", "b")
    )
    assert (finding.severity, finding.locations) == (Severity.ERROR, at("a", "b"))
    assert finding.message == "train, and every one of these is claimed frozen"


@pytest.mark.parametrize(
    ("intent", "frozen", "expected"),
    [
        (Intent.FINETUNE, (), Severity.NOTE),
        (Intent.FINETUNE, claimed("other"), Severity.NOTE),
        (Intent.RESUME, claimed("a"), Severity.NOTE),
        (Intent.DEPLOY, claimed("a"), Severity.ERROR),
    ],
)
def test_the_claim_counts_for_fine_tuning(
    intent: Intent, frozen: tuple[FrozenPattern, ...], expected: Severity
) -> None:
    (finding,) = policy.judge([FROZEN_RULES[0].finding("train", locations=at("a"))], FROZEN_RULES, intent, frozen)
    assert (finding.severity, finding.message) == (expected, "train")


def test_other_findings_about_frozen_layers_are_lowered_as_the_intent_says() -> None:
    (finding,) = policy.judge(
        [FROZEN_RULES[2].finding("w", locations=at("a"))], FROZEN_RULES, Intent.FINETUNE, claimed("a")
    )
    assert finding.severity is Severity.NOTE


def test_a_layer_of_another_model_is_not_claimed() -> None:
    finding = FROZEN_RULES[0].finding("train", locations=(Location(model="ema", path="a"),))
    (judged,) = policy.judge([finding], FROZEN_RULES, Intent.FINETUNE, claimed("a"))
    assert judged.severity is Severity.NOTE


def test_a_severity_set_by_hand_stands_for_every_intent_and_every_layer() -> None:
    finding = FROZEN_RULES[0].finding("train", locations=at("a", "b"))
    by_hand = {"BN101": Severity.WARNING, "BN204": Severity.ERROR}
    for intent in Intent:
        judged = policy.judge([finding], FROZEN_RULES, intent, claimed("a"), by_hand)
        assert {item.severity for item in judged} == {Severity.WARNING}
    assert (
        policy.judge([finding], FROZEN_RULES, Intent.DEPLOY, (), {"BN102": Severity.NOTE})[0].severity is Severity.ERROR
    )


JUDGING = (
    rule("BN101"),
    replace(rule("BN224"), compares=True),
    replace(rule("BN212"), needs=Facts.REFERENCE),
    replace(rule("BN501"), needs=Facts.OBSERVATION),
)


@pytest.mark.parametrize(
    ("code", "changes", "expected"),
    [
        ("BN101", {"checked": ("BN101",)}, True),
        ("BN101", {}, True),
        ("BN101", {"skipped": (Skipped(code="BN101", reason="no modes"),)}, False),
        ("BN101", {"checked": ("BN101",), "skipped": (Skipped(code="BN101", reason="half of it"),)}, False),
        ("BN101", {"deselected": ("BN101",)}, False),
        ("BN101", {"failed": (Failed(stage="BN204", error="no"),)}, False),
        ("BN101", {"comparison_only": True}, False),
        ("BN224", {"comparison_only": True, "checked": ("BN224",)}, True),
        ("BN224", {}, False),
        ("BN212", {}, False),
        ("BN212", {"checked": ("BN212",)}, True),
        ("BN501", {}, False),
        ("BN501", {"checked": ("BN501",)}, True),
        ("BN999", {}, False),
    ],
)
def test_what_a_rule_could_have_found(code: str, changes: dict[str, object], expected: bool) -> None:
    assert policy.was_judged(code, replace(report(), **changes), JUDGING) is expected


def test_findings_are_sorted_by_severity_and_code() -> None:
    findings = [RULES[2].finding("w"), RULES[1].finding("e"), RULES[0].finding("e", locations=at("q"))]
    assert [item.code for item in policy.judge(findings, RULES, Intent.DEPLOY)] == ["BN101", "BN102", "BN204"]


def report(*severities: Severity, failed: bool = False, skipped: bool = False, unrecorded: bool = False) -> Report:
    findings = tuple(rule("BN101", severity).finding("x") for severity in severities)
    if unrecorded:
        findings += (rule("BN111", Severity.NOTE).finding("x"),)
    return Report(
        source="m.pt",
        format="torch-checkpoint",
        intent=Intent.DEPLOY,
        findings=findings,
        failed=(Failed(stage="read", error="no"),) if failed else (),
        skipped=(Skipped(code="BN204", reason="no values"),) if skipped else (),
    )


@pytest.mark.parametrize(
    ("reports", "options", "expected"),
    [
        ([report()], {}, 0),
        ([report(Severity.ERROR)], {}, 1),
        ([report(Severity.WARNING)], {}, 0),
        ([report(Severity.WARNING)], {"fail_on": Severity.WARNING}, 1),
        ([report(Severity.NOTE)], {"fail_on": Severity.WARNING}, 0),
        ([report(Severity.NOTE)], {"fail_on": Severity.NOTE}, 1),
        ([report(Severity.ERROR)], {"exit_zero": True}, 0),
        ([report()], {"unused_waivers": 1}, 0),
        ([report()], {"unused_waivers": 1, "strict": True}, 1),
        ([report()], {"unused_waivers": 1, "strict": True, "exit_zero": True}, 0),
        ([report(failed=True)], {"unused_waivers": 1, "strict": True}, 3),
        ([report(failed=True)], {}, 3),
        ([report(failed=True)], {"exit_zero": True}, 3),
        ([report(Severity.ERROR), report(failed=True)], {}, 3),
        ([report(skipped=True)], {}, 0),
        ([report(skipped=True)], {"strict": True}, 3),
        ([report(unrecorded=True)], {}, 0),
        ([report(unrecorded=True)], {"strict": True}, 3),
        ([report()], {"strict": True}, 0),
    ],
)
def test_exit_codes(reports: list[Report], options: dict[str, object], expected: int) -> None:
    defaults: dict[str, object] = {"fail_on": Severity.ERROR, "strict": False, "exit_zero": False}
    assert policy.exit_code(reports, **{**defaults, **options}) == expected  # type: ignore[arg-type]
