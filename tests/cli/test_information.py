"""``--version``, ``--help`` and ``explain``."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import typer
from command import HEAVY, bn_audit_command

import bn_audit
from bn_audit import plugins
from bn_audit.cli import environment
from bn_audit.cli.app import COMMANDS, application
from bn_audit.version import VERSION

ROOT = Path(bn_audit.__file__).parents[1]


def test_version_is_that_of_the_package(run):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project.get("version", VERSION) == VERSION
    outcome = run("--version")
    assert (outcome.code, outcome.out) == (0, f"bn-audit {VERSION}\n")


def test_the_module_runs_as_the_command_does():
    outcome = bn_audit_command("--version")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"bn-audit {VERSION}\n", "")


def test_verbose_tells_the_versions_without_importing_anything_of_it():
    outcome = bn_audit_command("--version", "--verbose", without=(*HEAVY, "rich"))
    told = dict(row.split(" ", 1) for row in outcome.out.splitlines())
    assert list(told)[:3] == ["bn-audit", "python", "platform"]
    assert told["bn-audit"] == VERSION
    assert told["python"].startswith(platform.python_version())
    for name in ("torch", "numpy", "onnx", "onnxruntime"):
        assert told[name] == metadata.version(name)
    assert outcome.err.splitlines()[-1] == "attempted: "


def test_libraries_are_found_under_other_names_or_not_at_all(monkeypatch):
    def version(name):
        if name in ("onnxruntime-gpu", "rich"):
            return "1.2.3"
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"onnxruntime": ["onnxruntime-gpu"] * 2})
    told = dict(environment.found())
    assert told["onnxruntime"] == "1.2.3 (onnxruntime-gpu)"
    assert told["rich"] == "1.2.3"
    assert told["torch"] == "not installed"


@pytest.mark.parametrize("arguments", [["--verbose"], ["--verbose", "check", "x.pt"], ["nix"], ["--nix"]])
def test_options_without_a_command_are_a_usage_error(run, arguments):
    outcome = run(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err


def test_version_loads_neither_the_pipeline_nor_rich():
    program = (
        "import sys; sys.argv = ['bn-audit', '--version']\n"
        "from bn_audit.__main__ import main\n"
        "try: main()\n"
        "finally: print([m for m in ('rich', 'bn_audit.audit', 'bn_audit.plugins', 'json') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"bn-audit {VERSION}", "[]"]


@pytest.mark.parametrize("command", [[], ["check"], ["compare"], ["inspect"], ["explain"], ["completion"]])
def test_help_is_plain_and_fits_eighty_columns(run, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    outcome = run(*command, "--help")
    assert outcome.code == 0
    assert all(len(row) <= 80 and row.isprintable() for row in outcome.out.splitlines())


@pytest.mark.parametrize("command", ["check", "compare", "inspect", "explain", "completion"])
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


@pytest.mark.parametrize("command", ["check", "compare", "sweep"])
def test_the_help_names_every_format_and_every_suffix(command):
    built = typer.main.get_command(application([command])).commands[command]
    options = {item.name: item.help for item in built.params if item.name}
    named = options["report_format"].removeprefix("Report on stdout: ").rstrip(".").replace(" or ", ", ").split(", ")
    assert sorted(named) == sorted(reporter.name for reporter in plugins.reporters())
    suffixes = {suffix for reporter in plugins.reporters() for suffix in reporter.suffixes}
    assert set(re.findall(r"\.[a-z]+\b", options["output"])) == suffixes


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_named_is_built_alone_but_the_one_that_describes_all(command):
    built = set(typer.main.get_command(application([command, "--help"])).commands)
    assert built == (set(COMMANDS) if command == "completion" else {command})


def test_without_a_command_all_are_built():
    assert set(typer.main.get_command(application(["--help"])).commands) == set(COMMANDS)
