"""``bn-audit check``: the gate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bn_audit.cli import configuration
from bn_audit.cli import options as shared
from bn_audit.cli import run_options as run
from bn_audit.cli.exits import exit_codes
from bn_audit.cli.progress import watched
from bn_audit.cli.reporting import Reports
from bn_audit.errors import UsageError
from bn_audit.subject.finding import Intent, Severity

if TYPE_CHECKING:
    from bn_audit.options import Options

EPILOG = """\b
Examples:
  bn-audit check model.pt
  bn-audit check checkpoints/ --jobs 4 -o report.json
  bn-audit check models/ --write-baseline known.json
  bn-audit check last.ckpt --intent finetune --frozen 'backbone.*'
  bn-audit check model.onnx --against checkpoint.pt
  bn-audit check model.onnx --batch-sizes 1,2,8
  bn-audit check shop.vision:make_model --weights model.safetensors

\b
Exit codes: 0 nothing at or above --fail-on, 1 findings, 2 usage error,
3 something could not be audited (3 wins over 1), 130 interrupted.
"""


def check(
    context: typer.Context,
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TARGET]...",
            help="A file, directory, glob, or package.module:factory; without any, the targets of the settings.",
            show_default=False,
        ),
    ] = None,
    weights: shared.Weights = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="REFERENCE", help="Compare with this artifact or factory too; see compare."),
    ] = None,
    mapping: shared.Mapping = None,
    values: shared.Values = "bn",
    frozen: shared.Frozen = None,
    intent: shared.IntentOption = Intent.DEPLOY,
    select: shared.Select = None,
    ignore: shared.Ignore = None,
    fail_on: shared.FailOn = Severity.ERROR,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict/--no-strict",
            help="Exit with 3 where something was not checked or compared, or no mode is recorded, and with 1 for a "
            "waiver that waives nothing.",
        ),
    ] = False,
    exit_zero: shared.ExitZero = False,
    baseline: configuration.Baseline = None,
    write_baseline: configuration.WriteBaseline = None,
    config: configuration.Config = None,
    isolated: configuration.Isolated = False,
    report_format: shared.Format = "text",
    output: shared.Output = None,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Processes for several files.")] = 1,
    flow: Annotated[
        bool, typer.Option("--flow/--no-flow", help="Follow the samples through graphs: do rows of the batch meet?")
    ] = True,
    batch_sizes: Annotated[
        str | None,
        typer.Option(
            "--batch-sizes", metavar="SIZES", help="Run the model too, at these batch sizes: 1,2,8; see sweep."
        ),
    ] = None,
    inputs_file: run.InputsFile = None,
    inputs: run.Inputs = None,
    batch_axis: run.BatchAxis = None,
    trust: run.Trust = False,
    device: run.Device = "cpu",
    dtype: run.Dtype = None,
    threads: run.Threads = None,
    seed: run.Seed = 0,
    time_limit: run.TimeLimit = 600.0,
    memory_limit: run.MemoryLimit = None,
) -> None:
    """Audit model files; the exit code is the gate.

    Nothing in a file is executed without --batch-sizes. Only a package.module:factory is imported and called.
    """
    with exit_codes():
        reports = Reports(report_format, output)
        running = run.how_to_run(
            batch_sizes,
            tier="quick",
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
        names = configuration.asked_for(targets, settings)
        from bn_audit.configuring import configured
        from bn_audit.options import Options
        from bn_audit.subject.scope import ValueScope

        options = Options(
            intent=intent,
            weights=weights,
            against=against,
            mapping=tuple(mapping or ()),
            values=ValueScope(values),
            frozen=tuple(frozen or ()),
            select=shared.codes(select),
            ignore=shared.codes(ignore),
            fail_on=fail_on,
            strict=strict,
            exit_zero=exit_zero,
            jobs=jobs,
            flow=flow,
            baseline=baseline,
            accept_findings=write_baseline is not None,
            covers_settings=not targets,
            sweep=run.requested(running, batch_sizes, settings),
            running=running,
        )
        options = configured(options, settings, configuration.given(context))
        if (mapping or values != "bn") and not configuration.compares(options):
            raise UsageError("--map and --values say how to compare: name the reference with --against")
        code = _run(names, options, reports, write_baseline)
    raise typer.Exit(code)


def _run(targets: Sequence[str], options: Options, reports: Reports, write_baseline: Path | None) -> int:
    """Audit, write what was asked for, and return the exit code."""
    from bn_audit import audit

    configuration.check_baseline(write_baseline, options)
    read = [*targets, *configuration.read_by(options)]
    shared.announce_factories(read)
    with watched() as watch:
        result = audit.run(targets, options, watch.files, watch.passes)
    reports.write(result, read)
    configuration.warn_of_idle_paths(options, result)
    run.hint_at_trust(result, trust=options.running.trust)
    if write_baseline is not None:
        configuration.write_baseline(write_baseline, result, read)
    return result.exit_code
