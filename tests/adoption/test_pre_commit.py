"""The hook in a real pre-commit, in a git repository of its own, without network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import bn_audit
from bn_audit.expansion import MUST_READ_SUFFIXES

ROOT = Path(bn_audit.__file__).parents[1]
HOOKS = ROOT / ".pre-commit-hooks.yaml"
FIXTURES = ROOT / "fixtures"

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="no git here")


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository that uses the hook."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )

    def add(self, fixture: str, name: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(FIXTURES / fixture, path)
        assert self.run("git", "add", name).returncode == 0

    def commit(self) -> subprocess.CompletedProcess[str]:
        return self.run("git", "commit", "-m", "a change")


def git_repository(folder: Path, environment: dict[str, str]) -> Repository:
    folder.mkdir()
    repository = Repository(folder=folder, environment=environment)
    assert repository.run("git", "init", "-q", "-b", "main").returncode == 0
    return repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Return a repository with the hook installed, as it stands in this tree."""
    programs = tmp_path / "bin"
    programs.mkdir()
    command = programs / "bn-audit"
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m bn_audit "$@"\n')
    command.chmod(0o755)
    environment = {
        "PATH": os.pathsep.join((str(programs), os.environ["PATH"])),
        "HOME": str(tmp_path),
        "PRE_COMMIT_HOME": str(tmp_path / "cache"),
        "PRE_COMMIT_COLOR": "never",
        "PIP_NO_INDEX": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ALLOW_PROTOCOL": "file",
        **{f"GIT_{who}_{what}": "someone@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    hooks = git_repository(tmp_path / "hooks", environment)
    shutil.copy(HOOKS, hooks.folder)
    hooks.run("git", "add", ".")
    hooks.commit()
    revision = hooks.run("git", "rev-parse", "HEAD").stdout.strip()

    user = git_repository(tmp_path / "user", environment)
    config = {"repos": [{"repo": str(hooks.folder), "rev": revision, "hooks": [{"id": "bn-audit"}]}]}
    (user.folder / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    user.run("git", "add", ".")
    installed = user.run(sys.executable, "-m", "pre_commit", "install")
    assert installed.returncode == 0, installed.stderr
    return user


def test_a_model_in_training_mode_is_not_committed_and_a_repaired_one_is(repository: Repository) -> None:
    repository.add("train_mode.pt", "models/shop model.pt")
    refused = repository.commit()
    assert refused.returncode == 1
    assert "bn-audit" in refused.stdout + refused.stderr
    assert "models/shop model.pt  torch-checkpoint" in refused.stdout + refused.stderr
    assert "error BN101 train-mode" in refused.stdout + refused.stderr
    assert repository.run("git", "rev-parse", "--verify", "-q", "HEAD").returncode != 0

    repository.add("eval_mode.pt", "models/shop model.pt")
    accepted = repository.commit()
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    assert repository.run("git", "log", "--oneline").stdout.count("\n") == 1


def test_other_files_do_not_start_the_hook(repository: Repository) -> None:
    (repository.folder / "notes.txt").write_text("no model")
    repository.run("git", "add", "notes.txt")
    done = repository.commit()
    assert done.returncode == 0
    assert "(no files to check)" in done.stdout + done.stderr


def test_arguments_of_the_user_come_before_the_files(repository: Repository) -> None:
    config = repository.folder / ".pre-commit-config.yaml"
    settings = yaml.safe_load(config.read_text())
    settings["repos"][0]["hooks"][0]["args"] = ["--intent", "resume"]
    config.write_text(yaml.safe_dump(settings))
    repository.run("git", "add", ".")
    repository.add("train_mode.pt", "last.ckpt")
    done = repository.commit()
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_run_audits_all_files(repository: Repository) -> None:
    repository.add("train_mode.pt", "a.pt")
    repository.add("train_mode.onnx", "b.onnx")
    repository.add("eval_mode.pt", "c.pt")
    done = repository.run(sys.executable, "-m", "pre_commit", "run", "--all-files")
    assert done.returncode == 1
    assert "3 sources: 2 FAIL, 1 clean; exit code 1" in done.stdout


@pytest.mark.parametrize(
    ("name", "is_model"),
    [
        *((f"model{suffix}", True) for suffix in sorted(MUST_READ_SUFFIXES)),
        ("models/LAST.PT", True),
        ("checkpoint.pth.tar", True),
        ("pytorch_model.bin", True),
        ("pytorch_model-00001-of-00002.bin", True),
        ("model.bin", True),
        ("firmware.bin", False),
        ("remodel.bin", False),
        ("archive.tar", False),
        ("model.pt.expected.json", False),
        ("script.py", False),
        ("pt", False),
    ],
)
def test_the_pattern_takes_what_promises_a_model(name: str, is_model: bool) -> None:
    (hook,) = yaml.safe_load(HOOKS.read_text(encoding="utf-8"))
    assert (re.search(hook["files"], name) is not None) is is_model
