"""``bn-audit completion``: in bash for real, and the other shells' scripts against the application itself."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from command import bn_audit_command

from bn_audit import plugins
from bn_audit.cli.app import application

BASH = shutil.which("bash")
needs_bash = pytest.mark.skipif(BASH is None, reason="no bash here")

ROOT = typer.main.get_command(application())
COMMANDS = {name: command for name, command in ROOT.commands.items() if not command.hidden}
"""The application's own tree: what must be offered."""

CODES = [rule.code for rule in plugins.rules()]

REPLY = """
source "$1"; shift
COMP_WORDS=(bn-audit "$@"); COMP_CWORD=$#
_bn_audit
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        outcome = bn_audit_command("completion", shell)
        assert (outcome.code, outcome.err) == (0, "")
        (folder / shell).write_text(outcome.out, encoding="utf-8")
    return {shell: folder / shell for shell in ("bash", "zsh", "fish")}


def offered(script: Path, *words: str) -> list[str]:
    """Return what bash offers for the last of the words."""
    done = subprocess.run(
        [str(BASH), "--norc", "--noprofile", "-c", REPLY, "bash", str(script), *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def options_of(command) -> set[str]:
    names = {name for item in command.params if item.param_type_name == "option" for name in item.opts}
    return names | {name for item in command.params for name in getattr(item, "secondary_opts", ())} | {"--help", "-h"}


@needs_bash
def test_bash_completes_commands(scripts):
    assert set(offered(scripts["bash"], "")) == set(COMMANDS)
    assert offered(scripts["bash"], "chec") == ["check"]
    assert set(offered(scripts["bash"], "-")) == {"--version", "--verbose", "--help", "-h"}


@needs_bash
@pytest.mark.parametrize("name", COMMANDS)
def test_bash_completes_every_option_of_every_command(scripts, name):
    assert set(offered(scripts["bash"], name, "-")) == options_of(COMMANDS[name])


@needs_bash
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("check", "--fo"), ["--format"]),
        (("check", "model.pt", "--intent", ""), ["deploy", "resume", "finetune"]),
        (("check", "--fail-on", "w"), ["warning"]),
        (("check", "--format", "s"), ["sarif"]),
        (("check", "--format", "=", "ju"), ["junit"]),
        (("check", "--fail-on", "="), ["error", "warning", "note"]),
        (("check", "--select", "BN10"), [code for code in CODES if code.startswith("BN10")]),
        (("explain", "BN6"), [code for code in CODES if code.startswith("BN6")]),
        (("completion", ""), ["bash", "zsh", "fish"]),
        (("check", "--weights", ""), []),
        (("check", "mod"), []),
        (("check", "--jobs", ""), []),
        (("check", "-o", "compare", "--format", "j"), ["json", "junit"]),
    ],
)
def test_bash_completes_values(scripts, words, expected):
    assert offered(scripts["bash"], *words) == expected


@needs_bash
@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_the_tab_key_completes_a_command_line(scripts, tmp_path):
    (tmp_path / "some model.pt").write_bytes(b"")
    assert typed(scripts["bash"], tmp_path, "bn-audit compl\tba\t") == ["completion", "bash"]
    assert typed(scripts["bash"], tmp_path, "bn-audit check som\t--strict --no-fl\t") == [
        "check",
        "some model.pt",
        "--strict",
        "--no-flow",
    ]


def typed(script: Path, folder: Path, keys: str) -> list[str]:
    """Return the arguments that the program gets from an interactive bash after these keys."""
    import pty

    terminal, its_side = pty.openpty()
    shell = subprocess.Popen(
        [str(BASH), "--norc", "--noprofile", "-i"],
        stdin=its_side,
        stdout=its_side,
        stderr=its_side,
        start_new_session=True,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb"},
    )
    os.close(its_side)
    try:
        program = "bn-audit() { printf '\\nGOT'; printf '<%s>' \"$@\"; printf ':END'; }"
        os.write(terminal, f"{program}; source '{script}'; echo DEFIN''ED\n".encode())
        _read(terminal, "DEFINED")
        os.write(terminal, f"{keys}\n".encode())
        return re.findall("<(.*?)>", _read(terminal, "\nGOT<", ":END").rpartition("\nGOT")[2])
    finally:
        shell.kill()
        shell.wait()
        os.close(terminal)


def _read(terminal: int, *expected: str, seconds: float = 10) -> str:
    """Read until the terminal has shown the texts, in this order."""
    shown, end = "", time.monotonic() + seconds
    while not re.search(".*".join(map(re.escape, expected)), shown, re.DOTALL):
        assert time.monotonic() < end, f"waited for {expected}, saw {shown!r}"
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 65536).decode("utf-8", "replace")
    return shown


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_scripts_name_every_command_and_option(scripts, shell):
    text = scripts[shell].read_text(encoding="utf-8")
    for name, command in COMMANDS.items():
        assert re.search(rf"\b{name}\b", text)
        long = {option for option in options_of(command) if option.startswith("--")}
        for option in long:
            assert (option if shell == "zsh" else f"-l {option[2:]} ") in text, (name, option)
    assert all(rule.code in text for rule in plugins.rules())
    assert all(reporter.name in text for reporter in plugins.reporters())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_have_no_syntax_errors(scripts, shell):
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"no {shell} here")
    done = subprocess.run([path, "-n", str(scripts[shell])], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_shell_is_a_usage_error():
    assert bn_audit_command("completion", "tcsh").code == 2


def test_starting_the_program_loads_no_completion():
    outcome = bn_audit_command("--version", without=("torch",))
    assert "bn_audit.cli.shells" not in outcome.err
