"""The exit codes, as the README and the design promise them, case by case."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bn_audit import audit, plugins

WAIVER = '[[tool.bn-audit.waiver]]\ncode = "BN101"\nreason = "meant"\n'


@pytest.fixture
def project(artifacts, tmp_path, monkeypatch):
    """Return the working directory: a repository with a copy of the artifacts and files of settings."""
    (tmp_path / ".git").mkdir()
    for path in artifacts.iterdir():
        shutil.copy(path, tmp_path / path.name)
    for name, text in {
        "expired.toml": WAIVER.replace("tool.bn-audit.", "") + "expires = 2020-01-01\n",
        "waiver.toml": WAIVER.replace("tool.bn-audit.", ""),
        "strict.toml": "strict = true\n",
        "warning.toml": 'severity = { BN101 = "warning" }\n',
        "targets.toml": 'targets = ["train.pt"]\n',
        "missing_baseline.toml": 'baseline = "missing.json"\n',
        "typing_error.toml": "strikt = true\n",
        "bad_value.toml": 'strict = "yes"\n',
        "no_reason.toml": '[[waiver]]\ncode = "BN101"\n',
        "known.json": '{"schema": "bn-audit.baseline.v1", "findings": []}\n',
        "notes.txt": "no model\n",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("code", "command"),
    [
        pytest.param(0, "check eval.pt", id="nothing found"),
        pytest.param(0, "check plain.pt", id="a model without norm layers"),
        pytest.param(0, "check weights.pt", id="notes, below --fail-on"),
        pytest.param(0, "check weights.pt --fail-on warning", id="notes, below --fail-on warning"),
        pytest.param(0, "check train.pt --config warning.toml", id="a warning by settings, below --fail-on"),
        pytest.param(0, "check train.pt --exit-zero", id="findings of a job that only reports"),
        pytest.param(0, "check train.pt --config waiver.toml", id="waived"),
        pytest.param(0, "check train.pt --config waiver.toml --strict", id="waived, strict"),
        pytest.param(0, "check train.pt --write-baseline new.json", id="written as known"),
        pytest.param(0, "check eval.pt --config waiver.toml", id="a waiver that waives nothing"),
        pytest.param(0, "settings", id="settings printed"),
        pytest.param(1, "check train.pt", id="an error"),
        pytest.param(1, "check eval.pt train.pt", id="an error beside a clean file"),
        pytest.param(1, "check --config targets.toml", id="an error in a configured target"),
        pytest.param(1, "check weights.pt --fail-on note", id="a note, at --fail-on note"),
        pytest.param(1, "check train.pt --config warning.toml --fail-on warning", id="a warning, at --fail-on"),
        pytest.param(1, "check train.pt --config expired.toml", id="an expired waiver"),
        pytest.param(1, "check train.pt --baseline known.json", id="not in the baseline"),
        pytest.param(1, "check eval.pt --config waiver.toml --strict", id="a waiver that waives nothing, strict"),
        pytest.param(2, "check", id="no target and no settings"),
        pytest.param(2, "check --config strict.toml", id="no target in the settings"),
        pytest.param(2, "check eval.pt --no-such-flag", id="a bad flag"),
        pytest.param(2, "check eval.pt --fail-on never", id="a bad value of a flag"),
        pytest.param(2, "check eval.pt --select BN9", id="an unknown code"),
        pytest.param(2, "check eval.pt --config missing.toml", id="missing settings"),
        pytest.param(2, "check eval.pt --config typing_error.toml", id="an unknown setting"),
        pytest.param(2, "check eval.pt --config bad_value.toml", id="a bad value of a setting"),
        pytest.param(2, "check eval.pt --config no_reason.toml", id="a waiver without a reason"),
        pytest.param(2, "check eval.pt --baseline missing.json", id="a missing baseline"),
        pytest.param(2, "check eval.pt --config missing_baseline.toml", id="a missing baseline of the settings"),
        pytest.param(2, "check eval.pt --baseline notes.txt", id="a malformed baseline"),
        pytest.param(2, "check train.pt -o no/folder/report.json", id="a report that cannot be written"),
        pytest.param(2, "check broken.pt --baseline missing.json", id="a usage error wins over what is unreadable"),
        pytest.param(3, "check missing.pt", id="a missing target"),
        pytest.param(3, "check broken.pt", id="an unreadable target"),
        pytest.param(3, "check notes.txt", id="no model in a named file"),
        pytest.param(3, "check empty", id="no model in a folder"),
        pytest.param(3, "check train.pt broken.pt", id="3 wins over 1"),
        pytest.param(3, "check broken.pt --exit-zero", id="a job that only reports still has to look"),
        pytest.param(3, "check weights.pt --strict", id="a mode that is not recorded, strict"),
        pytest.param(3, "check weights.pt --config strict.toml", id="the same by settings"),
        pytest.param(3, "check broken.pt --config waiver.toml --strict", id="no waiver excuses what cannot be read"),
        pytest.param(3, "check broken.pt --write-baseline new.json", id="nor does a baseline"),
        pytest.param(3, "compare eval.pt broken.pt", id="a comparison that cannot be made"),
    ],
)
def test_exit_code(run, project, code, command):
    outcome = run(*command.split())
    assert outcome.code == code, outcome
    assert "Traceback" not in outcome.out + outcome.err
    assert (outcome.out == "") == (code == 2)


def test_findings_are_printed_although_3_wins(run, project):
    assert "BN101" in run("check", "train.pt", "broken.pt").out


def test_a_rule_that_fails_is_3_and_hides_no_finding(run, project, monkeypatch):
    def fail(_subject):
        raise ZeroDivisionError

    rules = tuple(replace(rule, check=fail) if rule.code == "BN204" else rule for rule in plugins.rules())
    monkeypatch.setattr(plugins, "rules", lambda: rules)
    outcome = run("check", "train.pt")
    assert outcome.code == 3
    assert "BN101" in outcome.out


def test_ctrl_c_is_130(run, project, monkeypatch):
    def interrupted(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(audit, "run", interrupted)
    outcome = run("check", "eval.pt")
    assert (outcome.code, outcome.out, outcome.err) == (130, "", "bn-audit: interrupted\n")


def test_the_verdict_never_says_clean_about_what_was_not_judged(run, project):
    for command in ("check weights.pt", "check train.pt --config waiver.toml", "check broken.pt", "check plain.pt"):
        assert "clean" not in run(*command.split()).out


def test_a_baseline_hides_no_unknown_mode_from_a_strict_run(run, project):
    assert run("check", "weights.pt", "--write-baseline", "new.json").code == 0
    assert run("check", "weights.pt", "--baseline", "new.json", "--strict").code == 3
    assert "BN111" not in Path("new.json").read_text()
