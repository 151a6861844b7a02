"""Workflow commands, parsed as GitHub's runner parses them."""

import io
import re
from dataclasses import dataclass

import hand_made
import pytest
from hand_made import audit, finding, report

from bn_audit.reporters.github import LONGEST_LINE, REPORTER
from bn_audit.styled import clean
from bn_audit.subject.finding import Location, Severity
from bn_audit.subject.report import Failed, Skipped


@dataclass(frozen=True)
class Command:
    name: str
    properties: dict[str, str]
    data: str


def parsed(row: str) -> Command | None:
    """Read one line of a log as actions/runner does (ActionCommand.cs, TryParseV2 and the older TryParse)."""
    trimmed = row.strip()
    if not trimmed.startswith("::"):
        assert "##[" not in row, "a command in the older syntax"
        return None
    end = trimmed.index("::", 2)
    name, _, rest = trimmed[2:end].strip().partition(" ")
    pairs = (pair.split("=", 1) for pair in rest.split(",") if pair.strip())
    properties = {key.strip(): unescaped(value, ":,") for key, value in pairs}
    return Command(name=name, properties=properties, data=unescaped(trimmed[end + 2 :], ""))


def unescaped(text: str, further: str) -> str:
    """Undo the escapes: %25 last, so that an escaped escape stays one."""
    for char in f"\r\n{further}%":
        text = text.replace(f"%{ord(char):02X}", char)
    return text


def written(of) -> str:
    out = io.StringIO()
    REPORTER.render(of, out, False)
    return out.getvalue()


@pytest.fixture(autouse=True)
def _outside_a_workflow(monkeypatch):
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)


def commands(of) -> list[Command]:
    return [found for row in written(of).splitlines() if (found := parsed(row)) is not None]


def test_a_finding_is_one_annotation():
    (command,) = commands(hand_made.TRAIN_MODE)
    assert command.name == "error"
    assert command.properties == {"file": "model.pt", "title": "BN101 train-mode"}
    assert command.data.split("\n") == [
        "2 of 2 batch norms are in training mode",
        "where: bn{1,2}",
        "fix: Call model.eval() before saving.",
    ]


def test_severities_have_their_command_and_the_worst_come_first_over_all_sources():
    notes = [finding("BN111", Severity.NOTE, name=f"note-{n}") for n in range(11)]
    of = audit(
        report("a.pt", findings=(*notes, finding("BN314", Severity.WARNING))),
        report("b.pt", findings=(finding(),), skipped=(Skipped(code="BN102", reason="why"),)),
        report("c.pt", failed=(Failed(stage="read", error="c.pt: is empty"),)),
    )
    names = [command.name for command in commands(of)]
    assert names == ["error", "error", "warning", *["notice"] * 12]


def test_the_last_line_is_the_verdict():
    assert written(hand_made.EVERYTHING).splitlines()[-4:] == [
        "runs/7/checkpoint.ckpt: FAIL (2 errors, 1 warning, 1 note; BN211 failed; train/eval mode not recorded for 1 "
        "of 10 batch norms; 1 rule not checked; 2 parts not read)",
        "broken.pt: NOT AUDITED (it could not be read)",
        "good.pt: clean (no findings)",
        "bn-audit: 3 sources: 1 FAIL, 1 NOT AUDITED, 1 clean; exit code 3",
    ]


def test_a_clean_run_has_no_annotation():
    assert commands(hand_made.CLEAN) == []


def test_accepted_findings_are_notices_with_their_reason():
    told = [(command.name, command.data.split("\n")[0]) for command in commands(hand_made.ACCEPTED)]
    assert told == [
        ("notice", "waived (batch-statistics): pix2pix does so by design"),
        ("notice", "waived until 2031-12-31: until the next export"),
        ("notice", "waiver of BN103 (pyproject.toml: waiver 3) found nothing to waive: an old experiment"),
        ("notice", "BN207 of models/gan.pt at ema head.bn is in the baseline and no longer occurs"),
    ]


HOSTILE_NAMES = [
    hand_made.HOSTILE,
    "100%25 %0A %",
    "a,title=forged::b",
    "x\r\n::set-output name=a::b",
    "::stop-commands::token",
    "##[command]rm",
    "a:b,c",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_names_come_back_as_they_were_and_add_no_command(name):
    found = finding(name=name, message=name, remedy=name, locations=(Location(path=name),))
    failure = Failed(stage="read", error=name)
    of = audit(report(name, findings=(found,), skipped=(Skipped(code="BN1", reason=name),), failed=(failure,)))
    failed, told, gap = commands(of)
    shown = clean(name)
    assert (failed.name, failed.data) == ("error", shown)
    assert told.properties == {"file": shown, "title": f"BN101 {shown}"}
    assert told.data == f"{shown}\nwhere: {shown}\nfix: {shown}"
    assert (gap.name, gap.data) == ("notice", f"BN1: {shown}")


def test_a_message_is_cut():
    long = finding(locations=tuple(Location(path=f"{'deep.' * 200}{chr(97 + n)}.bn") for n in range(20)))
    (command,) = commands(audit(report(findings=(long,))))
    assert len(command.data) <= LONGEST_LINE + 3


def test_files_are_named_from_the_root_of_the_checkout(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    of = audit(report("models/m.pt", findings=(finding(),)))
    assert commands(of)[0].properties["file"] == "models/m.pt"
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    assert commands(of)[0].properties["file"] == "sub/models/m.pt"
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path / "another"))
    assert commands(of)[0].properties["file"] == "models/m.pt"


def test_no_terminal_code_is_written():
    assert re.fullmatch(r"[ -~\n]*", written(hand_made.HOSTILE_NAMES))
