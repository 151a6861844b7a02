"""The commands put together."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Annotated

import typer

from bn_audit.cli.exits import exit_codes
from bn_audit.errors import UsageError

COMMANDS = {
    "check": "check",
    "sweep": "sweep",
    "compare": "compare",
    "fix": "fix",
    "inspect": "inspect_layers",
    "explain": "explain",
    "settings": "settings",
    "completion": "completion",
}
"""The module of each command, which defines a function of that name and an EPILOG."""

DESCRIBES_ALL = "completion"
"""The command that looks at all the others."""


def application(arguments: Sequence[str] = ()) -> typer.Typer:
    """Return the command line.

    Where the first argument names a command, that one alone is built: to build all of them takes longer than to audit a
    small file.
    """
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(root)
    for name in _needed(arguments):
        module = importlib.import_module(f"bn_audit.cli.{COMMANDS[name]}")
        app.command(name, epilog=module.EPILOG)(getattr(module, COMMANDS[name]))
    return app


def _needed(arguments: Sequence[str]) -> Sequence[str]:
    first = arguments[0] if arguments else ""
    if first == "--version":
        return ()
    return (first,) if first in COMMANDS and first != DESCRIBES_ALL else tuple(COMMANDS)


def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="With --version: also Python, the platform and the libraries found.")
    ] = False,
) -> None:
    """Will this model give the same answer for the same sample, whoever else is in the batch?

    Audits saved models for batch-normalisation mistakes, without running anything in the file.
    """
    if version:
        _print_version(verbose)
        raise typer.Exit
    with exit_codes():
        if verbose:
            raise UsageError("--verbose goes with --version")
        if context.invoked_subcommand is None:
            raise UsageError("no command is given: bn-audit --help lists them")


def _print_version(verbose: bool) -> None:
    from bn_audit.version import VERSION

    typer.echo(f"bn-audit {VERSION}")
    if verbose:
        from bn_audit.cli.environment import found

        for name, what in found():
            typer.echo(f"{name} {what}")
