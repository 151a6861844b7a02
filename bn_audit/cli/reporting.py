"""The reports of a run: one on stdout, further ones in files."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bn_audit.cli.streams import to_file, to_stdout
from bn_audit.errors import UsageError

if TYPE_CHECKING:
    from bn_audit.interfaces import Reporter
    from bn_audit.subject.report import Audit


ANNOTATIONS, SUMMARY = "github", "markdown"
"""With annotations goes a summary of the job, where GitHub names a file for it."""

JOB_SUMMARY = "GITHUB_STEP_SUMMARY"


class Reports:
    """What was asked for, found before anything is audited."""

    def __init__(self, report_format: str, output: Sequence[Path] | None) -> None:
        """Choose the reporters.

        Raises:
            UsageError: an unknown format or suffix, or a folder that does not exist.
        """
        self._stdout = _reporter_named(report_format)
        self._files = [(path, _reporter_for(path)) for path in output or []]

    def write(self, result: Audit, read: Sequence[str]) -> None:
        """Write all reports.

        Args:
            read: What the user named for reading; no report overwrites it.

        Raises:
            UsageError: a file that was audited would be overwritten, or cannot be written.
        """
        to_stdout(lambda out, colour: self._stdout.render(result, out, colour))
        for path, reporter in self._files:
            to_file(path, _rendered(reporter, result), _audited(result, read))
        summary = os.environ.get(JOB_SUMMARY) if self._stdout.name == ANNOTATIONS else None
        if summary:
            to_file(Path(summary), _summary(result), _audited(result, read), append=True)


def _summary(result: Audit) -> bytes:
    """Return the summary of a job; the empty line ends what an earlier command of the job wrote."""
    return b"\n" + _rendered(_reporter_named(SUMMARY), result)


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


def _rendered(reporter: Reporter, result: Audit) -> bytes:
    out = io.StringIO()
    reporter.render(result, out, False)
    return out.getvalue().encode("utf-8")


def _audited(result: Audit, read: Sequence[str]) -> Iterator[str]:
    yield from read
    yield from (report.source for report in result.reports)
    yield from (report.comparison.reference for report in result.reports if report.comparison is not None)
    yield from (source for source, _ in result.listed)
