"""The commands put together."""

from __future__ import annotations

from typing import Annotated

import typer

from bn_audit.cli import check, compare, completion, explain, inspect_layers, settings, sweep

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        from bn_audit.version import VERSION

        typer.echo(f"bn-audit {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Will this model give the same answer for the same sample, whoever else is in the batch?

    Audits saved models for batch-normalisation mistakes, without running anything in the file.
    """


app.command("check", epilog=check.EPILOG)(check.check)
app.command("sweep", epilog=sweep.EPILOG)(sweep.sweep)
app.command("compare", epilog=compare.EPILOG)(compare.compare)
app.command("inspect", epilog=inspect_layers.EPILOG)(inspect_layers.inspect_layers)
app.command("explain", epilog=explain.EPILOG)(explain.explain)
app.command("settings", epilog=settings.EPILOG)(settings.settings)
app.command("completion", epilog=completion.EPILOG)(completion.completion)
