"""``bn-audit fix``: a repaired copy of a model file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bn_audit.cli import configuration
from bn_audit.cli import options as shared
from bn_audit.cli import run_options as run
from bn_audit.cli.exits import NOT_AUDITED, complain, exit_codes
from bn_audit.cli.reporting import Reports
from bn_audit.errors import UsageError
from bn_audit.subject.finding import Severity

if TYPE_CHECKING:
    from bn_audit.repair.changes import Change, Repair
    from bn_audit.repair.fixing import Fixed
    from bn_audit.styled import Line

EPILOG = """\b
Examples:
  bn-audit fix model.pt -o model.eval.pt
  bn-audit fix model.onnx --diff
  bn-audit fix model.onnx -o repaired.onnx --batch-sizes 1,2,8
  bn-audit fix fixed_batch.onnx -o any_batch.onnx --free-batch

\b
Exit codes: those of check for the repaired copy; 1 with --diff where something
would change, 2 usage error, 3 nothing could be repaired, 130 interrupted.
"""

SHOWN = 20
"""Changes shown by name; they are many in a large model and all of one kind."""


def fix(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The model file; it is left as it is.")],
    copy: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where the repaired copy goes.")
    ] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Show what would change, and write nothing.")] = False,
    free_batch: Annotated[
        bool, typer.Option("--free-batch", help="Free the batch size that an ONNX file declares.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is at --output already.")] = False,
    fail_on: shared.FailOn = Severity.ERROR,
    config: configuration.Config = None,
    isolated: configuration.Isolated = False,
    report_format: shared.Format = "text",
    batch_sizes: Annotated[
        str | None,
        typer.Option("--batch-sizes", metavar="SIZES", help="Run the repaired copy at these batch sizes: 1,2,8."),
    ] = None,
    inputs_file: run.InputsFile = None,
    inputs: run.Inputs = None,
    trust: run.Trust = False,
) -> None:
    """Write a repaired copy of a model file: what can be set right without guessing.

    Pickled modules and TorchScript are set to evaluation mode, ONNX batch norms in training form to inference form,
    live dropout in ONNX is removed. Nothing in the file is executed. What needs judgement is named and left.
    """
    with exit_codes():
        if (copy is None) != diff:
            raise UsageError("say where the repaired copy goes with --output FILE, or look first with --diff alone")
        reports = Reports(report_format, None)
        settings = configuration.load(config, isolated)
        from bn_audit.configuring import configured
        from bn_audit.options import Options
        from bn_audit.repair import fixing

        running = run.how_to_run(
            batch_sizes,
            tier="quick",
            inputs=inputs,
            inputs_file=inputs_file,
            trust=trust,
        )
        options = Options(fail_on=fail_on, sweep=None if batch_sizes is None else running, running=running)
        options = configured(options, settings, configuration.given(context))
        fixed = fixing.fix(target, copy, options=options, free_batch=free_batch, overwrite=overwrite)
        code = _told(fixed, reports, target, is_machine=report_format != "text")
    raise typer.Exit(code)


def _told(fixed: Fixed, reports: Reports, target: str, *, is_machine: bool) -> int:
    """Write what became of the file, and return the exit code."""
    repair = fixed.repair
    if repair is None:
        reports.write(fixed.before, [target])
        return fixed.before.exit_code
    if is_machine:
        for item in _sentences(repair, is_written=fixed.after is not None):
            complain(item)
        reports.write(fixed.after or fixed.before, [target])
    else:
        from bn_audit.cli.streams import to_stdout
        from bn_audit.styled import write

        lines = list(_lines(repair, is_written=fixed.after is not None))
        to_stdout(lambda out, colour: write(lines, out, colour))
        if fixed.after is not None:
            reports.write(fixed.after, [target])
    if fixed.after is not None:
        return fixed.after.exit_code
    if repair.changes:
        return 1
    return NOT_AUDITED if repair.refused else 0


def _lines(repair: Repair, *, is_written: bool) -> Iterator[Line]:
    from bn_audit.styled import clean, line

    yield line((clean(repair.source), "bold"), f"  {repair.format}")
    for what, changes in _by_kind(repair.changes):
        count = f" ({len(changes)})" if len(changes) > 1 else ""
        yield line((what, "green"), count, indent=2)
        for change in changes[:SHOWN]:
            name = change.path or change.model or "(the root)"
            yield line(clean(name), (f"  {clean(change.type_name, 120)}", "dim"), indent=4)
        if len(changes) > SHOWN:
            yield line(f"and {len(changes) - SHOWN} more", indent=4)
    for sentence in repair.remarks:
        yield line(("note: ", "bold blue"), clean(sentence), indent=2)
    for sentence in repair.refused:
        yield line(("not repaired: ", "bold yellow"), clean(sentence), indent=2)
    if not repair.changes:
        yield line("nothing was written" if repair.refused else "nothing to repair", indent=2)
    elif not is_written:
        yield line("nothing was written: give --output FILE without --diff to write the repaired copy", indent=2)
    else:
        yield line()


def _by_kind(changes: tuple[Change, ...]) -> Iterator[tuple[str, list[Change]]]:
    kinds: dict[str, list[Change]] = {}
    for change in changes:
        kinds.setdefault(change.what, []).append(change)
    yield from kinds.items()


def _sentences(repair: Repair, *, is_written: bool) -> Iterator[str]:
    done = "changed" if is_written else "would change"
    for what, changes in _by_kind(repair.changes):
        yield f"{repair.source}: {done}: {what} ({len(changes)})"
    yield from (f"{repair.source}: {sentence}" for sentence in repair.remarks)
    yield from (f"{repair.source}: not repaired: {sentence}" for sentence in repair.refused)
