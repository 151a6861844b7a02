"""``bn-audit settings``, and settings at work in check and compare."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path

import pytest

import bn_audit
from bn_audit import waiving


@pytest.fixture
def project(artifacts, tmp_path, monkeypatch):
    """Return a repository, the working directory, with models/train.pt and models/eval.pt."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "models").mkdir()
    for name in ("train.pt", "eval.pt"):
        shutil.copy(artifacts / name, tmp_path / "models" / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(waiving, "today", lambda: date(2026, 6, 15))
    return tmp_path


def configure(text: str, file: str = "pyproject.toml") -> None:
    Path(file).write_text(text)


def summary(run, *arguments: object) -> dict:
    return json.loads(run("check", *arguments, "--format", "json").out)["summary"]


def test_everything_in_force_is_printed_with_its_origin(run, project):
    configure(
        """
        [tool.bn-audit]
        targets = ["models/"]
        severity = { BN204 = "error" }
        [[tool.bn-audit.target]]
        path = "models/gan*.pt"
        intent = "resume"
        [[tool.bn-audit.waiver]]
        code = "BN101"
        layer = "stem"
        reason = "meant"
        expires = 2026-06-14
        """
    )
    outcome = run("settings", "--fail-on", "warning")
    assert (outcome.code, outcome.err) == (0, "")
    rows = [" ".join(line.split()) for line in outcome.out.splitlines()]
    for row in (
        "settings: pyproject.toml",
        "targets models/ pyproject.toml: targets",
        "intent deploy default",
        "severity BN204 = error pyproject.toml: severity",
        "fail-on warning command line",
        "for models/gan*.pt",
        "intent resume pyproject.toml: target 1: intent",
        "waiver: BN101 at stem, expired on 2026-06-14: meant pyproject.toml: waiver 1",
    ):
        assert row in rows
    document = json.loads(run("settings", "--fail-on", "warning", "--format", "json").out)
    assert (document["schema"], document["file"]) == ("bn-audit.settings.v1", "pyproject.toml")
    by_key = {item["key"]: item for item in document["settings"]}
    assert by_key["severity"] == {"key": "severity", "value": {"BN204": "error"}, "origin": "pyproject.toml: severity"}
    assert by_key["fail-on"]["origin"] == "command line"
    assert document["paths"][0]["settings"] == [
        {"key": "intent", "value": "resume", "origin": "pyproject.toml: target 1: intent"}
    ]
    assert document["waivers"][0]["expired"] is True


def test_what_holds_for_one_file_is_printed_on_request(run, project):
    configure(
        '[tool.bn-audit]\nintent = "finetune"\n[[tool.bn-audit.target]]\npath = "models"\nintent = "resume"\n'
        '[[tool.bn-audit.target]]\npath = "*.onnx"\ninputs = "x=float32:3"\n'
    )
    rows = [" ".join(line.split()) for line in run("settings", "models/eval.pt", "other.onnx").out.splitlines()]
    assert "targets models/eval.pt, other.onnx command line" in rows
    own = rows[rows.index("in force for models/eval.pt") :]
    assert own[1] == "intent resume pyproject.toml: target 1: intent"
    other = rows[rows.index("in force for other.onnx") :]
    assert other[1] == "intent finetune pyproject.toml: intent"
    assert other[7] == "inputs x=float32:3 pyproject.toml: target 2: inputs"
    document = json.loads(run("settings", "models/eval.pt", "--format", "json").out)
    assert document["sources"][0]["source"] == "models/eval.pt"
    assert document["sources"][0]["settings"][0]["value"] == "resume"


def test_without_settings_all_is_default_and_it_says_so(run, project):
    outcome = run("settings")
    assert outcome.code == 0
    assert "no [tool.bn-audit]" in outcome.out
    origins = {item["origin"] for item in json.loads(run("settings", "--format", "json").out)["settings"]}
    assert origins == {"default"}


def test_hostile_settings_reach_no_terminal(run, project):
    configure(
        '[tool.bn-audit]\nfrozen = ["\\u001b[2J"]\n[[tool.bn-audit.waiver]]\ncode="BN101"\nreason="\\u001b[2Jx"\n'
    )
    assert "\x1b" not in run("settings").out
    configure('[tool.bn-audit]\n"\\u001b[2J" = 1\n')
    outcome = run("settings")
    assert (outcome.code, "\x1b" in outcome.err) == (2, False)


@pytest.mark.parametrize("command", ["settings", "check", "compare"])
def test_a_bad_setting_is_a_usage_error_of_every_command(run, project, command):
    configure("[tool.bn-audit]\nfail_on = 'error'\n")
    files = {"check": ["models/eval.pt"], "compare": ["models/eval.pt", "models/train.pt"]}.get(command, [])
    outcome = run(command, *files)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "bn-audit: pyproject.toml: there is no key 'fail_on': did you mean fail-on?\n"
    assert run(command, *files, "--isolated").code != 2
    assert run(command, *files, "--isolated", "--config", "pyproject.toml").code == 2


def test_check_without_arguments_audits_the_configured_targets(run, project, monkeypatch):
    nothing = run("check")
    assert (nothing.code, nothing.out) == (2, "")
    assert "no TARGET was given and no [tool.bn-audit] settings were found here" in nothing.err
    configure("[tool.bn-audit]\nstrict = true\n")
    assert "pyproject.toml sets no targets" in run("check").err
    configure('[tool.bn-audit]\ntargets = ["models/"]\n')
    assert summary(run)["sources"] == 2
    assert summary(run, "models/eval.pt")["sources"] == 1
    (project / "deep").mkdir()
    monkeypatch.chdir(project / "deep")
    assert summary(run)["sources"] == 2
    assert str(project) not in run("check").out


def test_the_command_line_wins(run, project):
    configure('[tool.bn-audit]\nintent = "resume"\nfail-on = "note"\nignore = ["BN1"]\nstrict = true\n')
    train = "models/train.pt"
    assert run("check", train).code == 0
    assert run("check", train, "--ignore", "BN2").code == 1
    assert run("check", train, "--ignore", "BN2", "--fail-on", "error").code == 0
    assert run("check", train, "--ignore", "BN2", "--intent", "deploy", "--fail-on", "error").code == 1
    assert run("check", train, "--isolated").code == 1


def test_strict_can_be_taken_back(run, artifacts, project):
    configure("[tool.bn-audit]\nstrict = true\n")
    weights = artifacts / "weights.pt"
    assert run("check", weights).code == 3
    assert run("check", weights, "--no-strict").code == 0


def test_a_severity_by_code_decides_the_exit_code(run, project):
    configure('[tool.bn-audit]\nseverity = { BN101 = "warning" }\n')
    assert run("check", "models/train.pt").code == 0
    assert run("check", "models/train.pt", "--fail-on", "warning").code == 1
    configure('[tool.bn-audit]\nintent = "resume"\nseverity = { BN101 = "error" }\n')
    assert run("check", "models/train.pt").code == 1


def test_settings_for_some_files_only(run, project):
    configure(
        """
        [tool.bn-audit]
        targets = ["models/"]
        [[tool.bn-audit.target]]
        path = "models/train.pt"
        intent = "resume"
        """
    )
    assert run("check").code == 0
    assert run("check", "--jobs", "2").code == 0
    assert run("check", "--intent", "deploy").code == 1


def test_a_reference_for_some_files_only(run, project):
    configure(
        """
        [tool.bn-audit]
        targets = ["models/eval.pt"]
        [[tool.bn-audit.target]]
        path = "models/eval.pt"
        against = "models/train.pt"
        """
    )
    (report,) = json.loads(run("check", "--format", "json").out)["reports"]
    assert report["reference"] == "models/train.pt"
    assert run("check", "--values", "all").code == 0


def told(outcome) -> tuple[int, dict]:
    document = json.loads(outcome.out)
    del document["settings"]
    return outcome.code, document


def test_a_freeze_policy_in_the_settings_is_the_one_of_the_command_line(run, project):
    train = "models/train.pt"
    by_hand = run("check", train, "--intent", "finetune", "--frozen", "1", "--format", "json", "--isolated")
    assert by_hand.code == 1
    configure('[tool.bn-audit]\nfrozen = ["1"]\n')
    by_settings = run("check", train, "--intent", "finetune", "--format", "json")
    assert told(by_settings) == told(by_hand)
    assert json.loads(by_settings.out)["settings"] == "pyproject.toml"
    assert run("check", train, "--intent", "finetune", "--frozen", "0").code == 0
    moved = run("compare", "models/eval.pt", train, "--frozen", "zzz", "--format", "json", "--isolated")
    assert "BN603" in moved.out
    configure('[tool.bn-audit]\nfrozen = ["zzz"]\n')
    assert told(run("compare", "models/eval.pt", train, "--format", "json")) == told(moved)


def test_files_of_the_settings_that_are_read_are_not_overwritten(run, project):
    assert run("check", "models/train.pt", "--write-baseline", "known.json").code == 0
    configure('[tool.bn-audit]\nbaseline = "known.json"\n')
    before = Path("known.json").read_bytes()
    outcome = run("check", "models/train.pt", "-o", "known.json")
    assert outcome.code == 2
    assert "left as it is" in outcome.err
    assert Path("known.json").read_bytes() == before


def test_a_declared_design_changes_what_is_found(run, project):
    configure('[tool.bn-audit]\n[[tool.bn-audit.waiver]]\nintent = "mc-dropout"\nreason = "we sample"\n')
    outcome = run("check", "models/train.pt")
    assert outcome.code == 1
    assert "BN507 mc-dropout-with-bn-train" in outcome.out
    assert "BN101" not in outcome.out
    assert run("check", "models/eval.pt").code == 0
    configure('[tool.bn-audit]\n[[tool.bn-audit.waiver]]\nintent = "batch-statistics"\nreason = "pix2pix"\n')
    outcome = run("check", "models/train.pt")
    assert outcome.code == 0
    assert "waived (batch-statistics): BN101 train-mode at" in outcome.out
    assert "1 finding waived" in outcome.out


def test_an_unused_waiver_is_told_and_fails_a_strict_run(run, project):
    configure('[tool.bn-audit]\n[[tool.bn-audit.waiver]]\ncode = "BN101"\nreason = "once needed"\n')
    outcome = run("check", "models/eval.pt")
    assert outcome.code == 0
    assert "once needed" in outcome.out
    assert summary(run, "models/eval.pt")["unused_waivers"] == 1
    strict = run("check", "models/eval.pt", "--strict")
    assert strict.code == 1
    assert "exit code 1: --strict fails a waiver that waives nothing" in strict.out
    assert run("check", "models/eval.pt", "--strict", "--exit-zero").code == 0
    assert run("check", "models/train.pt", "--strict").code == 0
    assert run("check", "models/eval.pt", "--strict", "--select", "BN2").code == 0


def test_a_waiver_that_lost_its_file_is_told_where_everything_was_audited(run, project):
    configure(
        '[tool.bn-audit]\ntargets = ["models/eval.pt"]\n'
        '[[tool.bn-audit.waiver]]\ncode = "BN101"\npath = "models/gone.pt"\nreason = "x"\n'
    )
    assert summary(run)["unused_waivers"] == 1
    assert summary(run, "models/eval.pt")["unused_waivers"] == 0


def test_a_glob_that_matches_nothing_is_told_where_everything_was_audited(run, project):
    configure(
        '[tool.bn-audit]\ntargets = ["models/"]\n'
        '[[tool.bn-audit.target]]\npath = "models/trian.pt"\nintent = "resume"\n'
        '[[tool.bn-audit.target]]\npath = "models/eval.pt"\nintent = "resume"\n'
    )
    told = "bn-audit: pyproject.toml: target 1: 'models/trian.pt' matches nothing that was audited"
    assert run("check").err.startswith(told)
    assert run("check").err.count("\n") == 1
    assert run("check", "models/train.pt").err == ""


def test_batch_sizes_for_some_files_run_these_alone(run, project):
    fixtures = Path(bn_audit.__file__).parents[1] / "fixtures"
    for name in ("eval_mode.onnx", "train_mode.onnx"):
        shutil.copy(fixtures / name, name)
    configure(
        """
        [tool.bn-audit]
        targets = ["*.onnx"]
        [[tool.bn-audit.target]]
        path = "eval_mode.onnx"
        batch-sizes = [3, 1, 3]
        """
    )
    reports = {report["source"]: report for report in json.loads(run("check", "--format", "json").out)["reports"]}
    assert [size["batch_size"] for size in reports["eval_mode.onnx"]["sweep"]["sizes"]] == [1, 3]
    assert reports["train_mode.onnx"]["sweep"] is None


def test_a_graph_keeps_what_fixed_its_batch_norms_beside_the_declared_dropout(run, project):
    shutil.copy(Path(bn_audit.__file__).parents[1] / "fixtures" / "train_mode.onnx", "train_mode.onnx")
    configure('[tool.bn-audit]\n[[tool.bn-audit.waiver]]\nintent = "mc-dropout"\nreason = "we sample"\n')
    (report,) = json.loads(run("check", "train_mode.onnx", "--format", "json").out)["reports"]
    assert {item["code"] for item in report["findings"]} == {"BN301", "BN401", "BN507"}
    assert [(item["code"], item["design"]) for item in report["waived"]] == [("BN504", "mc-dropout")]
