"""The composite GitHub Action: its steps run as GitHub would run them, but for the upload."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

import bn_audit

ROOT = Path(bn_audit.__file__).parents[1]
FOLDER = ROOT / ".github" / "actions" / "bn-audit"
ACTION = yaml.safe_load((FOLDER / "action.yml").read_text(encoding="utf-8"))
STEPS = ACTION["runs"]["steps"]
BASH = shutil.which("bash")

pytestmark = pytest.mark.skipif(BASH is None, reason="no bash here")


@dataclass(kw_only=True)
class Outcome:
    """What a run of the action left."""

    failed: bool = False
    log: str = ""
    summary: str = ""
    steps: dict[str, dict[str, str]] = field(default_factory=dict)
    uploaded: dict[str, str] | None = None

    @property
    def outputs(self) -> dict[str, str]:
        """The outputs of the step that audits, which are those of the action."""
        return self.steps["audit"]


class Workflow:
    """As much of GitHub's runner as the action uses."""

    def __init__(self, workspace: Path, scratch: Path) -> None:
        self.workspace = workspace
        self.scratch = scratch

    def run(self, **given: str) -> Outcome:
        names = {name.replace("_", "-"): value for name, value in given.items()}
        assert set(names) <= set(ACTION["inputs"]), "an input that the action does not have"
        inputs = {name: str(item["default"]) for name, item in ACTION["inputs"].items()} | names
        outcome = Outcome()
        for step in STEPS:
            condition = step.get("if", "success()")
            if self._holds(condition, inputs, outcome):
                self._step(step, inputs, outcome)
        return outcome

    def _holds(self, condition: str, inputs: dict[str, str], outcome: Outcome) -> bool:
        """Evaluate the conditions that the action has."""
        if "always()" not in condition and outcome.failed:
            return False
        text = condition.removeprefix("${{").removesuffix("}}").strip()
        terms = [term.strip() for term in text.split("&&")]
        return all(term in ("always()", "success()") or self._compared(term, inputs, outcome) for term in terms)

    def _compared(self, term: str, inputs: dict[str, str], outcome: Outcome) -> bool:
        match = re.fullmatch(r"([\w.-]+) (==|!=) '([^']*)'", term)
        assert match is not None, term
        return (self._value(match[1], inputs, outcome) == match[3]) is (match[2] == "==")

    def _value(self, name: str, inputs: dict[str, str], outcome: Outcome) -> str:
        scope, _, rest = name.partition(".")
        if scope == "inputs":
            return inputs[rest]
        step, _, output = rest.partition(".outputs.")
        assert scope == "steps" and output, name
        return outcome.steps.get(step, {}).get(output, "")

    def _filled(self, text: str, inputs: dict[str, str], outcome: Outcome) -> str:
        return re.sub(r"\$\{\{\s*([\w.-]+)\s*\}\}", lambda match: self._value(match[1], inputs, outcome), text)

    def _step(self, step: dict, inputs: dict[str, str], outcome: Outcome) -> None:
        if "uses" in step:
            outcome.uploaded = {key: self._filled(value, inputs, outcome) for key, value in step["with"].items()}
            return
        assert step["shell"] == "bash"
        script, files = self.scratch / "step.sh", {}
        script.write_text(step["run"], encoding="utf-8")
        for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
            files[name] = self.scratch / name
            files[name].write_text("")
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "GITHUB_WORKSPACE": str(self.workspace),
            "GITHUB_ACTION_PATH": str(FOLDER),
            "RUNNER_TEMP": str(self.scratch),
            **{name: str(path) for name, path in files.items()},
            **{name: self._filled(value, inputs, outcome) for name, value in step.get("env", {}).items()},
        }
        done = subprocess.run(
            [str(BASH), "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)],
            cwd=self.workspace,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        outcome.failed |= done.returncode != 0
        outcome.log += done.stdout + done.stderr
        outcome.summary += files["GITHUB_STEP_SUMMARY"].read_text(encoding="utf-8")
        rows = files["GITHUB_OUTPUT"].read_text(encoding="utf-8").splitlines()
        if "id" in step:
            outcome.steps[step["id"]] = dict(row.split("=", 1) for row in rows)


@pytest.fixture
def workflow(tmp_path: Path) -> Workflow:
    workspace, scratch = tmp_path / "workspace", tmp_path / "scratch"
    (workspace / "my models").mkdir(parents=True)
    scratch.mkdir()
    shutil.copy(ROOT / "fixtures" / "train_mode.pt", workspace / "my models" / "bad.pt")
    shutil.copy(ROOT / "fixtures" / "eval_mode.pt", workspace / "good.pt")
    return Workflow(workspace, scratch)


def test_a_finding_fails_the_job_with_annotation_summary_and_upload(workflow: Workflow) -> None:
    outcome = workflow.run(targets="'my models/' good.pt", python=sys.executable, upload_sarif="true")
    assert outcome.failed
    assert outcome.outputs == {"exit-code": "1", "sarif-file": "bn-audit.sarif"}
    assert "::error file=my models/bad.pt,title=BN101 train-mode::" in outcome.log
    assert "bn-audit: 2 sources: 1 FAIL, 1 clean; exit code 1" in outcome.log
    assert "### bn-audit: 2 sources: 1 FAIL, 1 clean; exit code 1" in outcome.summary
    assert outcome.uploaded is not None
    assert outcome.uploaded["category"] == "bn-audit"
    log = json.loads((workflow.workspace / "bn-audit.sarif").read_text(encoding="utf-8"))
    assert json.loads(Path(outcome.uploaded["sarif_file"]).read_text(encoding="utf-8")) == log
    (result,) = log["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert (result["ruleId"], place) == ("BN101", "my%20models/bad.pt")


def test_a_clean_model_passes_and_nothing_is_uploaded_unasked(workflow: Workflow) -> None:
    outcome = workflow.run(targets="good.pt", python=sys.executable)
    assert not outcome.failed, outcome.log
    assert outcome.outputs["exit-code"] == "0"
    assert outcome.uploaded is None
    assert "1 clean" in outcome.summary


def test_arguments_and_level_reach_the_command(workflow: Workflow) -> None:
    passed = workflow.run(targets="**/bad.pt", args="--intent 'resume'  # a comment", python=sys.executable)
    assert not passed.failed, passed.log
    failed = workflow.run(targets="**/bad.pt", args="--intent resume", fail_on="note", python=sys.executable)
    assert failed.outputs["exit-code"] == "1"


def test_a_missing_model_is_told_from_a_finding(workflow: Workflow) -> None:
    outcome = workflow.run(targets="nix.pt", python=sys.executable, upload_sarif="true")
    assert outcome.failed
    assert outcome.outputs["exit-code"] == "3"
    assert outcome.uploaded is not None


def test_without_targets_those_of_the_settings_are_audited(workflow: Workflow) -> None:
    (workflow.workspace / "pyproject.toml").write_text('[tool.bn-audit]\ntargets = ["good.pt"]\n')
    outcome = workflow.run(python=sys.executable)
    assert not outcome.failed, outcome.log
    assert "good.pt: clean" in outcome.log


def test_accepted_findings_open_no_alert(workflow: Workflow) -> None:
    (workflow.workspace / "pyproject.toml").write_text(
        '[[tool.bn-audit.waiver]]\ncode = ["BN101"]\nreason = "trained on, not deployed"\n'
    )
    outcome = workflow.run(targets="'my models'", python=sys.executable, upload_sarif="true")
    assert not outcome.failed, outcome.log
    assert outcome.uploaded is not None
    files = (workflow.workspace / "bn-audit.sarif", Path(outcome.uploaded["sarif_file"]))
    whole, uploaded = (json.loads(path.read_text(encoding="utf-8"))["runs"][0]["results"] for path in files)
    assert [result["suppressions"][0]["kind"] for result in whole] == ["external"]
    assert uploaded == []
    assert "trained on, not deployed" in outcome.log + outcome.summary


def test_an_old_report_is_not_uploaded_for_a_run_that_wrote_none(workflow: Workflow) -> None:
    (workflow.workspace / "bn-audit.sarif").write_text("{}")
    outcome = workflow.run(targets="good.pt", args="--no-such-option", python=sys.executable, upload_sarif="true")
    assert outcome.failed
    assert outcome.outputs == {"exit-code": "2"}
    assert outcome.uploaded is None


def test_a_report_in_the_place_of_a_model_leaves_the_model(workflow: Workflow) -> None:
    outcome = workflow.run(targets="good.pt", sarif_file="good.pt", python=sys.executable)
    assert outcome.failed
    assert (workflow.workspace / "good.pt").read_bytes() == (ROOT / "fixtures" / "eval_mode.pt").read_bytes()


def test_no_report_is_written_where_none_is_wanted(workflow: Workflow) -> None:
    outcome = workflow.run(targets="good.pt", sarif_file="", upload_sarif="true", python=sys.executable)
    assert not outcome.failed, outcome.log
    assert outcome.uploaded is None
    assert [path.name for path in workflow.workspace.glob("*.sarif")] == []


@pytest.mark.parametrize(
    "text",
    ["good.pt; touch owned", "$(touch owned)", "`touch owned`", "good.pt\ntouch owned", "'good.pt' && touch owned"],
)
@pytest.mark.parametrize("name", ["targets", "args", "fail_on", "sarif_file"])
def test_inputs_are_data(workflow: Workflow, name: str, text: str) -> None:
    workflow.run(**{"targets": "good.pt", "python": sys.executable} | {name: text})
    assert not (workflow.workspace / "owned").exists()


def test_nothing_in_the_workspace_is_imported(workflow: Workflow) -> None:
    for name in ("bn_audit.py", "typer.py", "shlex.py"):
        (workflow.workspace / name).write_text("raise SystemExit('imported from the workspace')\n")
    outcome = workflow.run(targets="good.pt", python=sys.executable)
    assert not outcome.failed, outcome.log


def test_an_open_quote_is_a_usage_error(workflow: Workflow) -> None:
    outcome = workflow.run(targets="'good.pt", python=sys.executable)
    assert outcome.failed
    assert "::error title=bn-audit::the quotes of targets do not close" in outcome.log


def test_a_missing_package_is_installed_from_the_action_itself(workflow: Workflow) -> None:
    python = workflow.scratch / "python"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *find_spec*) exit 1 ;; *"-m pip"*) echo "pip: $*"; exit 0 ;; esac\n'
        f'exec "{sys.executable}" "$@"\n'
    )
    python.chmod(0o755)
    outcome = workflow.run(targets="good.pt", python=str(python))
    assert not outcome.failed, outcome.log
    (row,) = [row for row in outcome.log.splitlines() if row.startswith("pip: ")]
    assert Path(row.split()[-1]).resolve() == ROOT
    assert (Path(row.split()[-1]) / "pyproject.toml").is_file()


def test_every_input_is_described_and_used_and_no_expression_is_in_a_script() -> None:
    text = (FOLDER / "action.yml").read_text(encoding="utf-8")
    for name, item in ACTION["inputs"].items():
        assert item["description"].endswith(".")
        assert f"inputs.{name}" in text
    for step in STEPS:
        assert "${{" not in step.get("run", ""), "an expression in a script is an injection"
    assert all(re.search(r"@v?[0-9a-f]+$", step["uses"]) for step in STEPS if "uses" in step)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here")
@pytest.mark.parametrize("step", [step for step in STEPS if "run" in step], ids=lambda step: step["name"])
def test_the_scripts_pass_shellcheck(step: dict) -> None:
    done = subprocess.run(
        ["shellcheck", "-s", "bash", "-"], input=step["run"], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
