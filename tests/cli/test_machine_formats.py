"""What CI systems read: stdout is the report and nothing else, whatever happens; no path of the machine is in it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from command import bn_audit_command

import bn_audit

ROOT = Path(bn_audit.__file__).parents[1]


def parse_annotations(text: str) -> None:
    *rows, last = text.splitlines()
    assert last.startswith("bn-audit: ")
    for row in rows:
        assert re.match(r"::(error|warning|notice) [a-z]+=[^:]*::\S|[^:\s].*: (--)?[A-Za-z]", row), row


def parse_markdown(text: str) -> None:
    assert text.startswith("### bn-audit: ")


def parse_html(text: str) -> None:
    assert text.startswith("<!DOCTYPE html>\n")
    assert text.endswith("</html>\n")


PARSERS: dict[str, Callable[[str], object]] = {
    "json": json.loads,
    "sarif": json.loads,
    "junit": ElementTree.fromstring,
    "github": parse_annotations,
    "markdown": parse_markdown,
    "html": parse_html,
}

RUNS = {
    "clean": (["eval.pt"], 0),
    "finding": (["train.pt"], 1),
    "finding-excused": (["train.pt", "--exit-zero"], 0),
    "unreadable": (["broken.pt"], 3),
    "missing": (["nix.pt"], 3),
    "not-checked": (["weights.pt", "--strict"], 3),
    "nothing-to-judge": (["plain.pt"], 0),
    "directory": (["."], 3),
    "processes": (["train.pt", "eval.pt", "--jobs", "2"], 1),
    "comparison": (["eval.pt", "--against", "train.pt"], None),
    "failed-comparison": (["eval.pt", "--against", "broken.pt"], 3),
}


@pytest.mark.parametrize("run_name", RUNS)
@pytest.mark.parametrize("name", PARSERS)
def test_stdout_is_the_report_alone(run, artifacts, monkeypatch, name, run_name):
    monkeypatch.chdir(artifacts)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    arguments, code = RUNS[run_name]
    outcome = run("check", *arguments, "--format", name)
    assert code is None or outcome.code == code
    PARSERS[name](outcome.out)
    assert "\x1b" not in outcome.out


@pytest.mark.skipif(sys.platform == "win32", reason="its C library goes by another name")
@pytest.mark.parametrize("name", PARSERS)
def test_what_a_factory_says_goes_beside_the_report(tmp_path, monkeypatch, name):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    (tmp_path / "chatty_factory.py").write_text(
        "import atexit, ctypes, os\nfrom torch import nn\nprint('imported')\nos.write(1, b'written\\n')\n"
        "ctypes.CDLL(None).puts(b'buffered in C')\natexit.register(print, 'at the end')\n"
        "def make():\n    print('called')\n    return nn.BatchNorm1d(3)\n"
    )
    monkeypatch.chdir(tmp_path)
    outcome = bn_audit_command("check", "chatty_factory:make", "--format", name)
    assert outcome.code == 1
    assert "runs its code" in outcome.err
    PARSERS[name](outcome.out)
    assert "chatty_factory" in outcome.out
    for said in ("imported", "written", "called", "buffered in C", "at the end"):
        assert f"{said}\n" in outcome.err


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize("arguments", [["--no-such"], ["--select", "XX"], ["-o", "x.pdf"], ["--baseline", "nix.json"]])
def test_a_usage_error_writes_no_half_report(run, artifacts, monkeypatch, name, arguments):
    monkeypatch.chdir(artifacts)
    outcome = run("check", "eval.pt", "--format", name, *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
@pytest.mark.parametrize("name", ["sarif", "junit"])
def test_progress_on_a_terminal_stays_out_of_the_report(artifacts, name):
    import pty

    terminal, its_side = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "bn_audit", "check", "train.pt", "eval.pt", "weights.pt", "--format", name],
        cwd=artifacts,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=its_side,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=60,
    )
    os.close(its_side)
    shown = os.read(terminal, 65536)
    os.close(terminal)
    assert b"3/3" in shown
    assert done.returncode == 1
    PARSERS[name](done.stdout.decode("utf-8"))


@pytest.mark.parametrize("name", [name for name in PARSERS if name != "json"])
def test_no_path_of_the_machine_leaves_it(run, artifacts, tmp_path, monkeypatch, name):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.chdir(tmp_path)
    names = ("train.pt", "weights.pt", "broken.pt", "nix.pt")
    outcome = run("check", *(artifacts / item for item in names), artifacts, "--format", name)
    assert outcome.code == 3
    for place in (artifacts, tmp_path, ROOT, Path.home()):
        assert f"{place}{os.sep}" not in outcome.out
        assert f"{place}" not in outcome.out or place == place.parent
    assert all(item in outcome.out for item in names)


def test_real_audits_follow_the_published_schema_and_fill_it(run, artifacts, monkeypatch):
    monkeypatch.chdir(ROOT)
    outcome = run("check", "fixtures", artifacts / "broken.pt", "--format", "sarif")
    document = json.loads(outcome.out)
    schema = json.loads((ROOT / "tests/reporters/sarif-schema-2.1.0.json").read_text(encoding="utf-8"))
    jsonschema.Draft4Validator(schema).validate(document)
    (whole,) = document["runs"]
    assert whole["invocations"][0]["exitCode"] == outcome.code == 3
    assert {result["ruleId"] for result in whole["results"]} >= {"BN101", "BN102", "BN301", "BN309", "BN310", "BN504"}
    rules = [rule["id"] for rule in whole["tool"]["driver"]["rules"]]
    assert all(rules[result["ruleIndex"]] == result["ruleId"] for result in whole["results"])
    prints = [result["partialFingerprints"]["bnAuditFinding/v1"] for result in whole["results"]]
    assert len(set(prints)) == len(prints)
    sources = [item["location"]["uri"] for item in whole["artifacts"]]
    assert "fixtures/train_mode.pt" in sources
    assert "broken.pt" in sources


def test_several_reports_in_one_run(run, artifacts, tmp_path, monkeypatch):
    monkeypatch.chdir(artifacts)
    files = {tmp_path / f"report.{suffix}" for suffix in ("json", "sarif", "xml", "md", "html", "txt")}
    outcome = run("check", "train.pt", "--format", "github", *(word for path in files for word in ("-o", path)))
    assert outcome.code == 1
    parse_annotations(outcome.out)
    assert {path for path in tmp_path.iterdir() if path.stat().st_size} == files
    for name, suffix in (("json", "json"), ("sarif", "sarif"), ("junit", "xml"), ("markdown", "md"), ("html", "html")):
        PARSERS[name]((tmp_path / f"report.{suffix}").read_text(encoding="utf-8"))


@pytest.fixture
def summary(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    return path


def test_annotations_come_with_a_summary_of_the_job(run, artifacts, monkeypatch, summary):
    monkeypatch.chdir(artifacts)
    summary.write_text("# before\nhalf a line")
    assert run("check", "train.pt", "--format", "github").code == 1
    assert run("check", "eval.pt", "--format", "github").code == 0
    before, first, second = summary.read_text(encoding="utf-8").split("\n### ")
    assert before == "# before\nhalf a line"
    assert first.startswith("bn-audit: 1 source: 1 FAIL; exit code 1\n")
    assert second.startswith("bn-audit: 1 source: 1 clean; exit code 0\n")


@pytest.mark.parametrize("name", ["text", "json", "sarif", "junit", "markdown", "html"])
def test_other_formats_write_no_summary(run, artifacts, summary, name):
    run("check", artifacts / "train.pt", "--format", name)
    assert not summary.exists()


def test_a_summary_that_cannot_be_written_is_said(run, artifacts, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "no" / "folder"))
    outcome = run("check", artifacts / "eval.pt", "--format", "github")
    assert outcome.code == 2
    assert "cannot be written" in outcome.err
    parse_annotations(outcome.out)


def test_a_model_is_no_summary(run, artifacts, tmp_path, monkeypatch):
    model = tmp_path / "model.pt"
    model.write_bytes((artifacts / "eval.pt").read_bytes())
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(model))
    assert run("check", model, "--format", "github").code == 2
    assert model.read_bytes() == (artifacts / "eval.pt").read_bytes()


@pytest.mark.parametrize("name", PARSERS)
def test_reporters_need_no_heavy_library(artifacts, name):
    outcome = bn_audit_command("check", artifacts / "train.pt", "--format", name, without=("torch", "numpy", "rich"))
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1] == "attempted: "
    PARSERS[name](outcome.out)


def test_a_plain_check_loads_what_its_own_report_needs(artifacts):
    outcome = bn_audit_command("check", artifacts / "train.pt", without=("torch",))
    (loaded,) = [row for row in outcome.err.splitlines() if row.startswith("loaded: ")]
    folders = {name.split(".")[2] for name in loaded.split(",") if name.startswith("bn_audit.reporters.")}
    assert not folders & {"_sarif", "_markdown", "_web", "_portable"}
