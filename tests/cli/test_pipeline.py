"""A project's pipeline from its first check to its exceptions, by the exit codes that end or pass its jobs."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import date
from pathlib import Path

import pytest
import torch
from torch import nn

from bn_audit import waiving

SETTINGS = """
[project]
name = "shop"

[tool.bn-audit]
targets = ["models/"]
fail-on = "error"
"""

WAIVER = """
[[tool.bn-audit.waiver]]
code = "BN101"
path = "models/classifier.pt"
layer = "1"
reason = "adapts to the shop of the day: ticket 4711"
expires = 2026-09-30
"""


def git(*arguments: str) -> str:
    identity = {f"GIT_{role}_{key}": "x@y" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    environment = {**os.environ, **identity, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", *arguments], check=True, capture_output=True, text=True, env=environment)
    return done.stdout


def commit(message: str) -> None:
    git("add", "--all")
    git("commit", "--quiet", "--message", message)


def save(training: tuple[int, ...] = ()) -> None:
    """Save a trained network in evaluation mode but for the layers given; its batch norms are 1 and 4."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5))
    for _ in range(3):
        model(torch.randn(4, 3, 8, 8))
    model.eval()
    for index in training:
        model[index].train()
    torch.save(model, "models/classifier.pt")


@pytest.fixture
def clock(monkeypatch):
    """Return a function that sets the day on which waivers are judged."""
    return lambda *day: monkeypatch.setattr(waiving, "today", lambda: date(*day))


@pytest.fixture
def repository(tmp_path, monkeypatch, clock):
    """Return a repository with settings and a model that passes; its folder of tests is the working directory."""
    monkeypatch.chdir(tmp_path)
    clock(2026, 6, 15)
    git("init", "--quiet")
    for folder in ("models", "tests"):
        Path(folder).mkdir()
    Path("pyproject.toml").write_text(SETTINGS)
    save()
    commit("a model that passes")
    return tmp_path


def add(text: str) -> None:
    file = Path("pyproject.toml")
    file.write_text(file.read_text() + text)


def summary(outcome) -> dict:
    return json.loads(outcome.out)["summary"]


def test_the_whole_story(run, repository, clock):
    passing = run("check")
    assert passing.code == 0
    assert "clean" in passing.out

    save(training=(1, 4))
    commit("a change that breaks it")
    broken = run("check")
    assert broken.code == 1
    assert "BN101" in broken.out

    add(WAIVER)
    commit("a waiver for one of the two layers")
    half = run("check")
    assert half.code == 1
    assert "adapts to the shop of the day: ticket 4711" in half.out
    assert "where: 4" in half.out

    save(training=(1,))
    add(WAIVER.replace("BN101", "BN102"))
    commit("the other layer is repaired")
    waived = run("check", "--format", "json")
    assert waived.code == 0
    counts = summary(waived)
    assert (counts["errors"], counts["waived"], counts["unused_waivers"]) == (0, 1, 1)
    (report,) = json.loads(waived.out)["reports"]
    (item,) = report["waived"]
    assert (item["code"], item["reason"]) == ("BN102", "adapts to the shop of the day: ticket 4711")
    assert item["expires"] == "2026-09-30"
    text = run("check").out
    assert "waived until 2026-09-30: BN102 mixed-mode at 1: adapts to the shop of the day: ticket 4711" in text
    assert "verdict: pass (no findings; 1 finding waived)" in text

    clock(2026, 9, 30)
    assert run("check").code == 0
    clock(2026, 10, 1)
    expired = run("check")
    assert expired.code == 1
    assert "expired on 2026-09-30 (pyproject.toml: waiver 2)" in " ".join(expired.out.split())

    assert run("check", "--write-baseline", "known-findings.json").code == 0
    Path("pyproject.toml").write_text(SETTINGS + 'baseline = "known-findings.json"\n')
    commit("a baseline in place of waivers")
    known = run("check", "--format", "json")
    assert known.code == 0
    assert (summary(known)["baselined"], summary(known)["waived"]) == (1, 0)

    save(training=(1, 4))
    new = run("check")
    assert new.code == 1
    assert "BN101" in new.out

    save()
    repaired = run("check")
    assert repaired.code == 0
    assert "in the baseline and no longer occurs" in repaired.out

    Path("models/second.pt").write_bytes(Path("models/classifier.pt").read_bytes()[:700])
    commit("a model that nobody can read")
    unreadable = run("check", "--format", "json")
    assert unreadable.code == 3
    assert summary(unreadable)["failed"] == 1
    assert git("status", "--porcelain") == ""


@pytest.mark.parametrize(
    "name", ["report.json", "report.sarif", "report.xml", "report.md", "report.html", "report.txt"]
)
def test_every_report_shows_and_counts_what_is_waived_and_known(run, repository, name):
    save(training=(1,))
    add(WAIVER.replace("BN101", "BN102"))
    waived = run("check", "-o", name)
    assert waived.code == 0
    assert "ticket 4711" in Path(name).read_text(encoding="utf-8")
    Path("pyproject.toml").write_text(SETTINGS)
    assert run("check", "--write-baseline", "known.json").code == 0
    assert run("check", "--baseline", "known.json", "-o", name).code == 0
    assert "BN102" in Path(name).read_text(encoding="utf-8")


def test_a_job_in_a_folder_below_sees_the_same(run, repository, monkeypatch):
    save(training=(1,))
    add(WAIVER.replace("BN101", "BN102"))
    monkeypatch.chdir("tests")
    outcome = run("check", "--format", "json")
    assert (outcome.code, summary(outcome)["waived"]) == (0, 1)
    assert str(repository) not in outcome.out
