"""``bn-audit check``: the gate."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bn_audit.cli.exits import exit_codes
from bn_audit.cli.options import Weights, announce_factories
from bn_audit.cli.streams import to_file, to_stdout
from bn_audit.errors import UsageError
from bn_audit.subject.finding import Intent, Severity

if TYPE_CHECKING:
    from bn_audit.audit import Progress
    from bn_audit.interfaces import Reporter
    from bn_audit.subject.report import Audit

EPILOG = """\b
Examples:
  bn-audit check model.pt
  bn-audit check checkpoints/ --jobs 4 -o report.json
  bn-audit check last.ckpt --intent resume
  bn-audit check shop.vision:make_model --weights model.safetensors

\b
Exit codes: 0 nothing at or above --fail-on, 1 findings, 2 usage error,
3 something could not be audited (3 wins over 1), 130 interrupted.
"""


def check(
    targets: Annotated[
        list[str],
        typer.Argument(metavar="TARGET...", help="A file, directory, glob, or package.module:factory."),
    ],
    weights: Weights = None,
    intent: Annotated[Intent, typer.Option(help="What the model is meant for.")] = Intent.DEPLOY,
    select: Annotated[
        list[str] | None, typer.Option(metavar="CODES", help="Check only codes that begin so: BN1,BN205.")
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option(metavar="CODES", help="Do not check codes that begin so.")] = None,
    fail_on: Annotated[
        Severity, typer.Option(help="Exit with 1 for findings of this severity or worse.")
    ] = Severity.ERROR,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 3 where something was not checked or no mode is recorded.")
    ] = False,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="Exit with 0 in spite of findings.")] = False,
    report_format: Annotated[
        str, typer.Option("--format", metavar="NAME", help="Report on stdout: text or json.")
    ] = "text",
    output: Annotated[
        list[Path] | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write a report to FILE too: .txt or .json. Repeatable."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Processes for several files.")] = 1,
    flow: Annotated[
        bool, typer.Option("--flow/--no-flow", help="Follow the samples through graphs: do rows of the batch meet?")
    ] = True,
) -> None:
    """Audit model files; the exit code is the gate.

    Nothing in a file is executed. Only a package.module:factory is imported and called.
    """
    with exit_codes():
        stdout_reporter = _reporter_named(report_format)
        files = [(path, _reporter_for(path)) for path in output or []]
        announce_factories(targets)
        from bn_audit import audit

        options = audit.Options(
            intent=intent,
            weights=weights,
            select=_codes(select),
            ignore=_codes(ignore),
            fail_on=fail_on,
            strict=strict,
            exit_zero=exit_zero,
            jobs=jobs,
            flow=flow,
        )
        with _progress() as progress:
            result = audit.run(targets, options, progress)
        to_stdout(lambda out, colour: stdout_reporter.render(result, out, colour))
        for path, reporter in files:
            to_file(path, _rendered(reporter, result), _audited(result, targets, weights))
    raise typer.Exit(result.exit_code)


def _reporter_named(name: str) -> Reporter:
    from bn_audit import plugins

    for reporter in plugins.reporters():
        if reporter.name == name:
            return reporter
    known = ", ".join(reporter.name for reporter in plugins.reporters())
    raise UsageError(f"--format {name}: unknown, use one of {known}")


def _reporter_for(path: Path) -> Reporter:
    from bn_audit import plugins

    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: there is no folder {path.parent}: create it first")
    for reporter in plugins.reporters():
        if path.suffix.lower() in reporter.suffixes:
            return reporter
    known = ", ".join(suffix for reporter in plugins.reporters() for suffix in reporter.suffixes)
    raise UsageError(f"--output {path}: the suffix chooses the format, use one of {known}")


def _codes(values: Sequence[str] | None) -> tuple[str, ...]:
    """Return the codes of a repeatable option whose values may be lists: ``--select BN1,BN2 --select BN3``."""
    return tuple(code.strip().upper() for value in values or () for code in value.split(","))


def _rendered(reporter: Reporter, result: Audit) -> bytes:
    out = io.StringIO()
    reporter.render(result, out, False)
    return out.getvalue().encode("utf-8")


def _audited(result: Audit, targets: Sequence[str], weights: str | None) -> Iterator[str]:
    yield from targets
    yield from (report.source for report in result.reports)
    yield from (source for source, _ in result.listed)
    if weights is not None:
        yield weights


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """Give a callback that draws a bar on stderr where that is a terminal and there are several files."""
    if not sys.stderr.isatty():
        yield None
        return
    from bn_audit.cli.progress import bar

    with bar() as update:
        yield update
