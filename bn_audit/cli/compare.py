"""``bn-audit compare``: what is missing, mismatched or moved between two artifacts."""

from __future__ import annotations

from typing import Annotated

import typer

from bn_audit.cli import configuration
from bn_audit.cli import options as shared
from bn_audit.cli.exits import exit_codes
from bn_audit.cli.reporting import Reports
from bn_audit.subject.finding import Intent, Severity

EPILOG = """\b
Examples:
  bn-audit compare checkpoint.pt model.onnx
  bn-audit compare before.pt after.pt --frozen 'backbone.*' -o drift.html
  bn-audit compare shop.vision:make_model checkpoint.pt
  bn-audit compare old.pt new.pt --map '^encoder\\.=backbone.' --values all

\b
Exit codes: 0 nothing at or above --fail-on, 1 findings, 2 usage error,
3 something could not be compared (3 wins over 1), 130 interrupted.
"""


def compare(
    context: typer.Context,
    reference: Annotated[
        str, typer.Argument(metavar="REFERENCE", help="What is expected: a file, directory of shards, or factory.")
    ],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="What is compared with it; findings are about it.")],
    mapping: shared.Mapping = None,
    values: shared.Values = "bn",
    frozen: shared.Frozen = None,
    intent: shared.IntentOption = Intent.DEPLOY,
    select: shared.Select = None,
    ignore: shared.Ignore = None,
    fail_on: shared.FailOn = Severity.ERROR,
    strict: Annotated[
        bool, typer.Option("--strict/--no-strict", help="Exit with 3 where something was not compared.")
    ] = False,
    exit_zero: shared.ExitZero = False,
    config: configuration.Config = None,
    isolated: configuration.Isolated = False,
    report_format: shared.Format = "text",
    output: shared.Output = None,
) -> None:
    """Compare the parameters and statistics of two artifacts, of any formats, or of one with a factory's model.

    Says how their names and layers align, what is missing or mismatched, which layers moved and how far, whether
    folded batch norms were folded correctly, and what was not compared.
    """
    with exit_codes():
        reports = Reports(report_format, output)
        settings = configuration.load(config, isolated)
        shared.announce_factories([reference, target])
        from bn_audit import audit
        from bn_audit.configuring import configured
        from bn_audit.options import Options
        from bn_audit.subject.scope import ValueScope

        options = Options(
            intent=intent,
            against=reference,
            mapping=tuple(mapping or ()),
            values=ValueScope(values),
            frozen=tuple(frozen or ()),
            select=shared.codes(select),
            ignore=shared.codes(ignore),
            fail_on=fail_on,
            strict=strict,
            exit_zero=exit_zero,
            comparison_only=True,
        )
        given = configuration.given(context) | {"baseline", "flow", "jobs"}
        result = audit.run([target], configured(options, settings, given))
        reports.write(result, [reference, target])
    raise typer.Exit(result.exit_code)
