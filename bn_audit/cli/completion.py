"""``bn-audit completion``: the commands and options, for the TAB key."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from bn_audit.cli.exits import exit_codes
from bn_audit.cli.streams import to_stdout

EPILOG = """\b
Examples:
  bn-audit completion bash
  eval "$(bn-audit completion bash)"   # in ~/.bashrc; zsh likewise
  bn-audit completion fish > ~/.config/fish/completions/bn-audit.fish
"""


def completion(
    context: typer.Context,
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print a script that lets a shell complete commands, options and their values.

    The script holds all of them, so that no key waits for Python; write it anew after an update.
    """
    with exit_codes():
        from bn_audit import plugins
        from bn_audit.cli.shells import bash, fish, zsh
        from bn_audit.cli.shells.description import described

        codes = tuple(rule.code for rule in plugins.rules())
        names = tuple(reporter.name for reporter in plugins.reporters())
        words = {"--format": names, "--select": codes, "--ignore": codes, "CODE": codes}
        commands = described(context.find_root().command, words)
        scripts = {"bash": bash, "zsh": zsh, "fish": fish}
        to_stdout(lambda out, _colour: out.writelines([scripts[shell].script(commands)]))
