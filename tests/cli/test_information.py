"""``--version``, ``--help`` and ``explain``."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import bn_audit
from bn_audit import plugins
from bn_audit.version import VERSION

ROOT = Path(bn_audit.__file__).parents[1]


def test_version_is_that_of_the_package(run):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project.get("version", VERSION) == VERSION
    outcome = run("--version")
    assert (outcome.code, outcome.out) == (0, f"bn-audit {VERSION}\n")


def test_version_loads_neither_the_pipeline_nor_rich():
    program = (
        "import sys; sys.argv = ['bn-audit', '--version']\n"
        "from bn_audit.__main__ import main\n"
        "try: main()\n"
        "finally: print([m for m in ('rich', 'bn_audit.audit', 'bn_audit.plugins', 'json') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"bn-audit {VERSION}", "[]"]


@pytest.mark.parametrize("command", [[], ["check"], ["compare"], ["inspect"], ["explain"]])
def test_help_is_plain_and_fits_eighty_columns(run, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    outcome = run(*command, "--help")
    assert outcome.code == 0
    assert all(len(row) <= 80 and row.isprintable() for row in outcome.out.splitlines())


@pytest.mark.parametrize("command", ["check", "compare", "inspect", "explain"])
def test_help_has_examples(run, command):
    assert f"  bn-audit {command} " in run(command, "--help").out


def test_the_table_names_every_rule(run):
    outcome = run("explain")
    assert outcome.code == 0
    for rule in plugins.rules():
        assert rule.code in outcome.out
        assert rule.name in outcome.out


@pytest.mark.parametrize("rule", plugins.rules(), ids=lambda rule: rule.code)
def test_every_rule_is_explained(run, rule):
    outcome = run("explain", rule.code.lower())
    assert outcome.code == 0
    assert outcome.out.startswith(f"{rule.code} {rule.name}\n")
    assert outcome.out.split()[2:12] == rule.documentation.split()[:10]
    assert run("explain", rule.name).out == outcome.out


@pytest.mark.parametrize(("asked", "near"), [("BB101", "BN101"), ("train", "train-mode")])
def test_an_unknown_rule_names_the_nearest(run, asked, near):
    outcome = run("explain", asked)
    assert outcome.code == 2
    assert f"did you mean {near}?" in outcome.err
