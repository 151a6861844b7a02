"""``--baseline`` and ``--write-baseline``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def models(artifacts, tmp_path, monkeypatch):
    """Return the working directory, with train.pt, eval.pt, weights.pt and broken.pt."""
    for name in ("train.pt", "eval.pt", "weights.pt", "broken.pt"):
        shutil.copy(artifacts / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def summary(outcome) -> dict:
    return json.loads(outcome.out)["summary"]


def test_known_findings_pass_are_counted_and_told(run, models):
    assert run("check", "train.pt").code == 1
    outcome = run("check", "train.pt", "--write-baseline", "known.json")
    assert outcome.code == 0
    assert outcome.err == "bn-audit: wrote 2 known findings to known.json\n"
    outcome = run("check", "train.pt", "--baseline", "known.json")
    assert outcome.code == 0
    assert "in the baseline: 1 finding (BN101)" in outcome.out
    assert "clean" not in outcome.out
    counts = summary(run("check", "train.pt", "--baseline", "known.json", "--format", "json"))
    assert (counts["errors"], counts["baselined"], counts["exit_code"]) == (0, 1, 0)


def test_a_new_finding_fails_although_others_are_known(run, models):
    run("check", "train.pt", "--write-baseline", "known.json")
    shutil.copy("train.pt", "second.pt")
    outcome = run("check", "train.pt", "second.pt", "--baseline", "known.json")
    assert outcome.code == 1


def test_what_is_gone_is_told_and_the_file_stays(run, models):
    run("check", "train.pt", "--write-baseline", "known.json")
    before = Path("known.json").read_bytes()
    shutil.copy("eval.pt", "train.pt")
    outcome = run("check", "train.pt", "--baseline", "known.json")
    assert outcome.code == 0
    assert outcome.out.count("in the baseline and no longer occurs") == 2
    assert summary(run("check", "train.pt", "--baseline", "known.json", "--format", "json"))["resolved"] == 2
    assert summary(run("check", "eval.pt", "--baseline", "known.json", "--format", "json"))["resolved"] == 0
    assert Path("known.json").read_bytes() == before


def test_writing_anew_replaces_the_file(run, models):
    run("check", "train.pt", "--write-baseline", "known.json")
    assert run("check", "eval.pt", "--write-baseline", "known.json").code == 0
    assert json.loads(Path("known.json").read_text())["findings"] == []


def test_failures_and_unknown_modes_are_never_known(run, models):
    outcome = run("check", "broken.pt", "weights.pt", "--write-baseline", "known.json")
    assert outcome.code == 3
    assert json.loads(Path("known.json").read_text())["findings"] == []
    assert run("check", "broken.pt", "--baseline", "known.json").code == 3
    assert run("check", "weights.pt", "--baseline", "known.json", "--strict").code == 3


def test_several_processes_find_the_same_known_findings(run, models):
    run("check", "train.pt", "eval.pt", "--write-baseline", "known.json")
    assert run("check", "train.pt", "eval.pt", "--baseline", "known.json", "--jobs", "2").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--baseline", "missing.json"], "write it with --write-baseline"),
        (["--baseline", "eval.pt"], "is no baseline"),
        (["--baseline", "."], "cannot be read"),
        (["--write-baseline", "train.pt"], "is no baseline"),
        (["--write-baseline", "no/folder/known.json"], "there is no folder"),
        (["--write-baseline", "new.json", "--baseline", "old.json"], "leave one of them out"),
    ],
)
def test_what_cannot_be_is_a_usage_error(run, models, arguments, message):
    before = {path.name: path.read_bytes() for path in models.iterdir()}
    outcome = run("check", "train.pt", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert {path.name: path.read_bytes() for path in models.iterdir()} == before


def test_an_audited_file_is_not_overwritten_even_if_it_is_a_baseline(run, models):
    run("check", "train.pt", "--write-baseline", "known.json")
    before = Path("known.json").read_bytes()
    outcome = run("check", "train.pt", "known.json", "--write-baseline", "known.json")
    assert outcome.code == 2
    assert Path("known.json").read_bytes() == before
