"""The commands put together."""

from __future__ import annotations

from typing import Annotated

import typer

from bn_audit.cli import check, compare, completion, explain, fix, inspect_layers, settings, sweep
from bn_audit.cli.exits import exit_codes
from bn_audit.errors import UsageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
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


app.command("check", epilog=check.EPILOG)(check.check)
app.command("sweep", epilog=sweep.EPILOG)(sweep.sweep)
app.command("compare", epilog=compare.EPILOG)(compare.compare)
app.command("fix", epilog=fix.EPILOG)(fix.fix)
app.command("inspect", epilog=inspect_layers.EPILOG)(inspect_layers.inspect_layers)
app.command("explain", epilog=explain.EPILOG)(explain.explain)
app.command("settings", epilog=settings.EPILOG)(settings.settings)
app.command("completion", epilog=completion.EPILOG)(completion.completion)
