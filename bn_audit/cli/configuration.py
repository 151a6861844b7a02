"""The settings of a run, and what of the command line stands above them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bn_audit.cli.exits import complain
from bn_audit.errors import UsageError

if TYPE_CHECKING:
    from bn_audit.options import Options
    from bn_audit.settings.content import Settings
    from bn_audit.subject.report import Audit

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings: a pyproject.toml, or a TOML file with the same keys."),
]
Isolated = Annotated[bool, typer.Option("--isolated", help="Read no settings.")]
Baseline = Annotated[
    str | None, typer.Option("--baseline", metavar="FILE", help="Hide and count the findings that FILE knows.")
]
WriteBaseline = Annotated[
    Path | None,
    typer.Option("--write-baseline", metavar="FILE", help="Write the findings to FILE as known, and pass for them."),
]


def load(config: Path | None, isolated: bool) -> Settings:
    """Return the settings of the run.

    Raises:
        UsageError: there are two minds about the file, or something in it is wrong.
    """
    from bn_audit.settings.content import Settings
    from bn_audit.settings.locating import load_settings

    if not isolated:
        settings = load_settings(config, _codes)
        _check_runs(settings)
        return settings
    if config is not None:
        raise UsageError("--isolated reads no settings and --config names some: leave one of them out")
    return Settings()


def _check_runs(settings: Settings) -> None:
    """Refuse what no model can be run with, as the command line does."""
    for found in settings.paths:
        if "batch_sizes" in found.values:
            from bn_audit.cli.run_options import batch_sizes

            try:
                batch_sizes(",".join(map(str, found.values["batch_sizes"])))
            except UsageError as error:
                raise UsageError(f"{found.origin}: {error}") from error


def _codes() -> list[str]:
    from bn_audit import plugins

    return [rule.code for rule in plugins.rules()]


def given(context: typer.Context) -> frozenset[str]:
    """Return the names of the parameters that the command line really gave."""
    sources = ((name, context.get_parameter_source(name)) for name in context.params)
    return frozenset(name for name, source in sources if source is not None and source.name == "COMMANDLINE")


def asked_for(targets: Sequence[str] | None, settings: Settings) -> tuple[str, ...]:
    """Return the targets: those of the command line, else those of the settings.

    Raises:
        UsageError: there are none.
    """
    found = tuple(targets or settings.targets)
    if not found:
        where = f"{settings.file} sets no targets" if settings.file else "no [tool.bn-audit] settings were found here"
        raise UsageError(f"no TARGET was given and {where}: name a file or directory to check")
    return found


def read_by(options: Options) -> Iterator[str]:
    """Yield what a run reads beside its targets: what runs code is announced, and no report overwrites any of it."""
    for value in (options.against, options.weights, options.baseline):
        if isinstance(value, str):
            yield value
    for found in options.paths:
        yield from (found.values[name] for name in ("against", "weights") if name in found.values)


def compares(options: Options) -> bool:
    """Return whether some source has a reference."""
    return options.against is not None or any("against" in found.values for found in options.paths)


def warn_of_idle_paths(options: Options, result: Audit) -> None:
    """Say on stderr which tables of the settings matched nothing although every configured target was audited."""
    if not options.covers_settings:
        return
    from bn_audit.configuring import idle_paths

    sources = [report.source for report in result.reports] + [source for source, _reason in result.listed]
    for found in idle_paths(options, sources):
        complain(
            f"{found.origin}: {found.path!r} matches nothing that was audited: correct the glob or remove the table"
        )


def check_baseline(write: Path | None, options: Options) -> None:
    """Refuse what could not become a baseline, before anything is audited.

    Raises:
        UsageError: a baseline is read and written at once, the folder does not exist, or the file is no baseline.
    """
    if write is None:
        return
    if options.baseline is not None:
        raise UsageError("--write-baseline takes every finding as known and --baseline some: leave one of them out")
    if not write.parent.is_dir():
        raise UsageError(f"--write-baseline {write}: there is no folder {write.parent}: create it first")
    if write.exists():
        from bn_audit.baseline import read_baseline

        read_baseline(write)


def write_baseline(file: Path, result: Audit, audited: Sequence[str]) -> None:
    """Write what the run found to `file`.

    Raises:
        UsageError: it was audited, or cannot be written.
    """
    from bn_audit.baseline import document
    from bn_audit.cli.streams import to_file

    to_file(file, document(result.reports, file.parent), audited)
    count = sum(len(finding.places) for report in result.reports for finding in report.baselined)
    complain(f"wrote {count} known {'finding' if count == 1 else 'findings'} to {file}")
