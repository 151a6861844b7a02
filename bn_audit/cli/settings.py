"""``bn-audit settings``: what is in force here, and where each value comes from."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from bn_audit.cli import configuration
from bn_audit.cli import options as shared
from bn_audit.cli.exits import exit_codes
from bn_audit.cli.streams import to_stdout
from bn_audit.subject.finding import Intent, Severity

EPILOG = """\b
Examples:
  bn-audit settings
  bn-audit settings models/gan.pt
  bn-audit settings --config ci/bn-audit.toml --format json
"""


def settings(
    context: typer.Context,
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TARGET]...", help="Print what holds for this one, too.", show_default=False),
    ] = None,
    intent: shared.IntentOption = Intent.DEPLOY,
    select: shared.Select = None,
    ignore: shared.Ignore = None,
    fail_on: shared.FailOn = Severity.ERROR,
    strict: Annotated[bool, typer.Option("--strict/--no-strict", help="As for check.")] = False,
    frozen: shared.Frozen = None,
    flow: Annotated[bool, typer.Option("--flow/--no-flow", help="As for check.")] = True,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="As for check.")] = 1,
    baseline: configuration.Baseline = None,
    config: configuration.Config = None,
    isolated: configuration.Isolated = False,
    report_format: Annotated[Literal["text", "json"], typer.Option("--format", help="For people or for machines.")] = (
        "text"
    ),
) -> None:
    """Print the settings that are in force here, and where each value comes from.

    The nearest pyproject.toml with a [tool.bn-audit] table counts, from the working directory up to the root of the
    repository. What holds for some files only, and the waivers, follow.
    """
    with exit_codes():
        found = configuration.load(config, isolated)
        from bn_audit.configuring import configured, in_force, in_force_for
        from bn_audit.options import Options
        from bn_audit.settings import table
        from bn_audit.styled import write
        from bn_audit.waiving import today

        options = Options(
            intent=intent,
            select=shared.codes(select),
            ignore=shared.codes(ignore),
            fail_on=fail_on,
            strict=strict,
            frozen=tuple(frozen or ()),
            flow=flow,
            jobs=jobs,
            baseline=baseline,
        )
        given = configuration.given(context)
        options = configured(options, found, given)
        values = in_force(options, targets or (), found, given)
        sources = {name: in_force_for(name, options, found, given) for name in targets or ()}
        if report_format == "json":
            import json

            text = json.dumps(table.document(found, values, sources, today()), indent=2) + "\n"
            to_stdout(lambda out, _colour: print(text, end="", file=out))
        else:
            to_stdout(lambda out, colour: write(table.lines(found, values, sources, today()), out, colour))
