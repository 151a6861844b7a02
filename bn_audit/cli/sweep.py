"""``bn-audit sweep``: run models and measure what companions, place and batch size do to an answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from bn_audit.cli import configuration
from bn_audit.cli import options as shared
from bn_audit.cli import run_options as run
from bn_audit.cli.exits import NOT_AUDITED, exit_codes
from bn_audit.cli.progress import watched
from bn_audit.cli.reporting import Reports
from bn_audit.subject.finding import Intent, Severity

EPILOG = """\b
Examples:
  bn-audit sweep model.onnx
  bn-audit sweep model.pt --trust --input x=float32:3x224x224 -o report.html
  bn-audit sweep model.pt2 --trust --inputs samples.npz --batch-sizes 1,2,4,16
  bn-audit sweep shop.vision:make_model --weights model.safetensors --device cuda

\b
Exit codes: 0 nothing at or above --fail-on, 1 findings, 2 usage error,
3 something could not be audited or run (3 wins over 1), 130 interrupted.
"""


def sweep(
    context: typer.Context,
    targets: Annotated[
        list[str],
        typer.Argument(metavar="TARGET...", help="A file, directory, glob, or package.module:factory."),
    ],
    batch_sizes: Annotated[
        str, typer.Option("--batch-sizes", metavar="SIZES", help="Batch sizes to compare, such as 1,2,8.")
    ] = "1,2,3,8",
    full: Annotated[
        bool, typer.Option("--full/--quick", help="Every measurement, or those that check --batch-sizes makes.")
    ] = True,
    inputs_file: run.InputsFile = None,
    inputs: run.Inputs = None,
    batch_axis: run.BatchAxis = None,
    trust: run.Trust = False,
    weights: shared.Weights = None,
    device: run.Device = "cpu",
    dtype: run.Dtype = None,
    threads: run.Threads = None,
    seed: run.Seed = 0,
    time_limit: run.TimeLimit = 600.0,
    memory_limit: run.MemoryLimit = None,
    intent: shared.IntentOption = Intent.DEPLOY,
    select: shared.Select = None,
    ignore: shared.Ignore = None,
    fail_on: shared.FailOn = Severity.ERROR,
    strict: Annotated[
        bool, typer.Option("--strict/--no-strict", help="Exit with 3 where something was not checked.")
    ] = False,
    exit_zero: shared.ExitZero = False,
    config: configuration.Config = None,
    isolated: configuration.Isolated = False,
    report_format: shared.Format = "text",
    output: shared.Output = None,
) -> None:
    """Run models at several batch sizes: does an answer depend on the rest of the batch, and where does that begin?

    Each model is audited as by check, then run in a process of its own. Companions are exchanged, rows moved and
    sizes changed; differences are judged against the model's own floating-point noise.
    """
    with exit_codes():
        reports = Reports(report_format, output)
        running = run.how_to_run(
            batch_sizes,
            tier="full" if full else "quick",
            inputs=inputs,
            inputs_file=inputs_file,
            batch_axis=batch_axis,
            device=device,
            dtype=dtype,
            threads=threads,
            seed=seed,
            trust=trust,
            time_limit=time_limit,
            memory_limit=memory_limit,
        )
        settings = configuration.load(config, isolated)
        from bn_audit import audit
        from bn_audit.configuring import configured
        from bn_audit.options import Options

        options = Options(
            intent=intent,
            weights=weights,
            select=shared.codes(select),
            ignore=shared.codes(ignore),
            fail_on=fail_on,
            strict=strict,
            exit_zero=exit_zero,
            sweep=running,
        )
        given = configuration.given(context) | {"against", "baseline", "flow", "jobs"}
        options = configured(options, settings, given)
        read = [*targets, *(name for name in (inputs_file, weights) if name is not None)]
        shared.announce_factories(read)
        with watched() as watch:
            result = audit.run(targets, options, watch.files, watch.passes)
        if run.unrun(result, targets):
            result = replace(result, exit_code=NOT_AUDITED)
        reports.write(result, read)
        run.hint_at_trust(result, trust=trust)
    raise typer.Exit(result.exit_code)
