"""The recipes of the README do what they say."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import readme
import yaml

from bn_audit import plugins

TEXT = readme.README.read_text(encoding="utf-8")
SECTION = TEXT.partition("## In CI\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", SECTION, re.DOTALL | re.MULTILINE)
YAML = [yaml.safe_load(block) for language, block in BLOCKS if language == "yaml"]
COMMANDS = re.findall(r"bn-audit check [^'#\n]*[^'#\n ]", SECTION)
ROOT = readme.ROOT


def test_there_is_a_recipe_for_each_system() -> None:
    keys = [next(key for key in ("repos", "jobs", "bn-audit") if key in block) for block in YAML]
    assert keys == ["repos", "jobs", "bn-audit"]
    assert [language for language, _ in BLOCKS] == ["yaml", "yaml", "yaml", "groovy", "sh"]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_run_and_write_their_reports(command: str, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    shutil.copy(ROOT / "fixtures" / "train_mode.pt", tmp_path / "models" / "model.pt")
    words = shlex.split(command)
    done = subprocess.run(
        [sys.executable, "-m", "bn_audit", *words[1:]],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    files = [following for word, following in itertools.pairwise(words) if word == "-o"]
    assert files
    assert all((tmp_path / name).stat().st_size for name in files)


def test_three_recipes_have_commands() -> None:
    assert len(COMMANDS) == 3


def test_gitlab_and_jenkins_collect_what_the_command_writes() -> None:
    job = YAML[2]["bn-audit"]
    written = re.findall(r"-o (\S+)", job["script"][-1])
    assert {job["artifacts"]["reports"]["junit"], *job["artifacts"]["paths"]} == set(written)
    (groovy,) = [block for language, block in BLOCKS if language == "groovy"]
    assert set(re.findall(r"(?:junit|archiveArtifacts) '(.*?)'", groovy)) == set(re.findall(r"-o ([\w.-]+)", groovy))


def test_the_workflow_gives_the_action_inputs_that_it_has() -> None:
    action = yaml.safe_load((ROOT / ".github" / "actions" / "bn-audit" / "action.yml").read_text(encoding="utf-8"))
    (step,) = [step for step in YAML[1]["jobs"]["models"]["steps"] if "/.github/actions/bn-audit@" in step["uses"]]
    assert set(step["with"]) <= set(action["inputs"])


def test_the_hook_of_the_recipe_exists() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    (used,) = YAML[0]["repos"][0]["hooks"]
    assert used["id"] == hook["id"]


def test_the_table_has_every_format_and_suffix() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (?:`(\.\w+)`)? ?\|", SECTION, re.MULTILINE)
    assert sorted(rows) == sorted((item.name, next(iter(item.suffixes), "")) for item in plugins.reporters())
