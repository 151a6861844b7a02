"""``bn-audit check``: exit codes, streams, options."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

import bn_audit
from bn_audit import audit, plugins
from bn_audit.reporters.json_v1 import SCHEMA_PATH

ROOT = Path(bn_audit.__file__).parents[1]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["eval.pt"], 0),
        (["plain.pt"], 0),
        (["train.pt"], 1),
        (["eval.pt", "train.pt"], 1),
        (["weights.pt"], 0),
        (["missing.pt"], 3),
        (["broken.pt"], 3),
        (["train.pt", "broken.pt"], 3),
        (["train.pt", "--exit-zero"], 0),
        (["broken.pt", "--exit-zero"], 3),
        (["train.pt", "--intent", "resume"], 0),
        (["train.pt", "--intent", "resume", "--fail-on", "note"], 1),
        (["weights.pt", "--fail-on", "note"], 1),
        (["weights.pt", "--strict"], 3),
        (["train.pt", "--ignore", "BN1"], 0),
        (["train.pt", "--ignore", "BN2,BN101"], 0),
        (["train.pt", "--ignore", "BN2", "--ignore", "bn101"], 0),
        (["train.pt", "--select", "BN2"], 0),
        (["train.pt", "--select", "BN2, BN101"], 1),
        (["*.nothing"], 3),
        ([], 2),
        (["train.pt", "--no-such-option"], 2),
        (["train.pt", "--intent", "fun"], 2),
        (["train.pt", "--fail-on", "never"], 2),
        (["train.pt", "--select", "XX1"], 2),
        (["train.pt", "--select", ""], 2),
        (["train.pt", "--ignore", "BN101,"], 2),
        (["train.pt", "--format", "xml"], 2),
        (["train.pt", "-o", "report.pdf"], 2),
        (["train.pt", "-o", "report"], 2),
        (["train.pt", "-o", "no/such/folder/report.json"], 2),
        (["train.pt", "--jobs", "0"], 2),
        (["train.pt", "--weights", "weights.pt"], 2),
        (["eval.pt", "train.pt", "--jobs", "2"], 1),
    ],
)
def test_exit_code(run, artifacts, monkeypatch, arguments, code):
    monkeypatch.chdir(artifacts)
    outcome = run("check", *arguments)
    assert outcome.code == code, outcome
    assert "Traceback" not in outcome.err
    assert bool(outcome.err) == (code == 2)


def test_findings_are_printed_although_another_file_could_not_be_read(run, artifacts):
    outcome = run("check", artifacts / "train.pt", artifacts / "broken.pt")
    assert outcome.code == 3
    assert "BN101" in outcome.out
    assert "NOT AUDITED" in outcome.out


def test_an_unknown_code_names_the_nearest(run, artifacts):
    assert "did you mean BN101?" in run("check", artifacts / "train.pt", "--select", "BB101").err


def test_a_selection_is_never_called_clean(run, artifacts):
    outcome = run("check", artifacts / "eval.pt", "--select", "BN101")
    assert outcome.code == 0
    assert "clean" not in outcome.out
    assert f"{len(plugins.rules()) - 1} rules not selected" in outcome.out


def test_json_on_stdout_is_nothing_but_json_and_follows_the_schema(run, artifacts):
    names = ("train.pt", "eval.pt", "weights.pt", "broken.pt", "plain.pt", "missing.pt")
    outcome = run("check", *(artifacts / name for name in names), "--format", "json")
    document = json.loads(outcome.out)
    jsonschema.Draft202012Validator(json.loads(SCHEMA_PATH.read_text())).validate(document)
    assert document["summary"]["exit_code"] == outcome.code == 3
    by_name = {Path(report["source"]).name: report for report in document["reports"]}
    assert list(by_name) == list(names)
    assert [finding["code"] for finding in by_name["train.pt"]["findings"]] == ["BN101"]
    assert [norm["uses_batch_statistics"] for norm in by_name["train.pt"]["norms"]] == [True, True]
    assert [norm["num_batches_tracked"] for norm in by_name["eval.pt"]["norms"]] == [3, 3]
    assert by_name["plain.pt"]["norms"] == []
    assert [len(by_name[name]["failed"]) for name in ("broken.pt", "missing.pt")] == [1, 1]


def test_jobs_change_nothing_in_the_report(run, artifacts):
    one = run("check", artifacts, "--format", "json")
    two = run("check", artifacts, "--format", "json", "--jobs", "2")
    assert json.loads(one.out) == json.loads(two.out)


def test_output_files_choose_their_format_by_suffix(run, artifacts, tmp_path):
    paths = [tmp_path / "report.json", tmp_path / "REPORT.TXT"]
    outcome = run("check", artifacts / "train.pt", "-o", paths[0], "--output", paths[1])
    assert outcome.code == 1
    assert json.loads(paths[0].read_text())["schema"] == "bn-audit.report.v1"
    assert paths[1].read_text() == outcome.out


@pytest.mark.parametrize("link", [False, True])
def test_an_audited_file_is_never_overwritten(run, artifacts, tmp_path, link):
    model = tmp_path / "model.json"
    model.write_bytes((artifacts / "train.pt").read_bytes())
    output = model
    if link:
        output = tmp_path / "link.json"
        output.symlink_to(model)
    before = model.read_bytes()
    outcome = run("check", model, "-o", output)
    assert outcome.code == 2
    assert "audited" in outcome.err
    assert model.read_bytes() == before


def test_a_factory_is_announced_on_stderr(run, tmp_path, monkeypatch):
    (tmp_path / "announced_factory.py").write_text("from torch import nn\nmake = lambda: nn.BatchNorm1d(3)\n")
    monkeypatch.chdir(tmp_path)
    outcome = run("check", "announced_factory:make")
    assert outcome.code == 1
    assert "announced_factory:make" in outcome.err
    assert "runs its code" in outcome.err


def test_ctrl_c_is_130(run, artifacts, monkeypatch):
    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(audit, "run", interrupted)
    outcome = run("check", artifacts / "eval.pt")
    assert outcome.code == 130
    assert outcome.out == ""


def test_a_fault_of_the_tool_is_not_mistaken_for_a_finding(run, artifacts, monkeypatch):
    def faulty(*_arguments):
        raise RuntimeError("fault")

    monkeypatch.setattr(audit, "run", faulty)
    outcome = run("check", artifacts / "eval.pt")
    assert outcome.code == 3
    assert "RuntimeError: fault" in outcome.err
    assert "please report" in outcome.err


def test_a_reader_that_goes_away_does_not_change_the_exit_code(artifacts):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "bn_audit", "check", artifacts / "train.pt"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env=environment, check=False)
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == b""


def test_names_that_the_encoding_of_stdout_lacks_are_escaped(artifacts, tmp_path):
    model = tmp_path / "gr\u00fc\u00dfe \u6f22.pt"
    model.write_bytes((artifacts / "train.pt").read_bytes())
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "bn_audit", "check", str(model)]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 1
    assert b"gr\\xfc\\xdfe \\u6f22.pt" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
@pytest.mark.parametrize(("names", "drawn"), [(["eval.pt", "train.pt"], True), (["train.pt"], False)])
def test_a_bar_appears_on_a_terminal_for_several_files(artifacts, names, drawn):
    import pty

    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "bn_audit", "check", *names]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, cwd=artifacts, env=environment, check=False)
    os.close(terminal)
    try:
        drawing = os.read(controller, 100_000)
    except OSError:  # Linux says so when nothing was written
        drawing = b""
    os.close(controller)
    assert done.returncode == 1
    assert b"\x1b" not in done.stdout
    assert (b"2/2" in drawing) == drawn


def test_every_reporter_is_named_in_the_help(run):
    text = run("check", "--help").out
    for reporter in plugins.reporters():
        assert reporter.name in text
        assert all(suffix in text for suffix in reporter.suffixes)
