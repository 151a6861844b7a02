"""The same audit as another machine may read it: sources by their place in the working directory, no absolute path."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bn_audit.subject.finding import Finding
from bn_audit.subject.report import Audit, Failed, Report, Skipped

if TYPE_CHECKING:
    from bn_audit.subject.comparison import Comparison
    from bn_audit.subject.observation import Observation

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")

_ABSOLUTE = re.compile(r"(?<![\w./\\-])(/[\w.+-]+)/(?:[^\s'\"<>|:/]+/)*([^\s'\"<>|:/]+)")
"""A path from the root of the disk: its first folder, and its last part."""

Rename = Callable[[str], str]


def portable(audit: Audit, root: str | None = None) -> Audit:
    """Return the audit with every source relative to `root` (the working directory), with ``/`` between folders.

    A source outside of it keeps its name only, and as many folders as tell it from another source. Messages name it
    likewise. Names out of the artifacts stay as they are: those of ONNX nodes look like absolute paths.
    """
    root = os.path.abspath(root or Path.cwd())  # noqa: PTH100 - resolve() would follow links to where the bytes lie
    names = _names(_sources(audit), root)
    in_error = _renaming({}, root)
    return replace(
        audit,
        reports=tuple(_report(report, names, root) for report in audit.reports),
        unused_waivers=tuple(replace(waiver, origin=in_error(waiver.origin)) for waiver in audit.unused_waivers),
        settings=None if audit.settings is None else in_error(audit.settings),
        listed=tuple((names[source], _renaming({source: names[source]}, root)(why)) for source, why in audit.listed),
    )


def _renaming(names: dict[str, str], root: str) -> Rename:
    """Return what makes a text name these sources by their names, and anything beside them without its folder."""
    folders = [os.path.dirname(source) for source in names if os.path.isabs(source)]  # noqa: PTH117, PTH120
    strip = [folder.rstrip(os.sep) + os.sep for folder in (*folders, root) if folder.strip(os.sep)]

    def rename(text: str) -> str:
        for old, new in names.items():
            text = text.replace(old, new)
        for folder in strip:
            text = text.replace(folder, "")
        return _ABSOLUTE.sub(_shortened, text)

    return rename


def _shortened(path: re.Match[str]) -> str:
    """Return what a model's own error says of a file elsewhere: its name; names of ONNX nodes look alike and stay."""
    return f".../{path[2]}" if Path(path[1]).is_dir() else path[0]


def _sources(audit: Audit) -> Iterable[str]:
    for report in audit.reports:
        yield from _sources_of(report)
    yield from (source for source, _ in audit.listed)


def _sources_of(report: Report) -> Iterable[str]:
    yield report.source
    if report.comparison is not None:
        yield report.comparison.reference


def _names(sources: Iterable[str], root: str) -> dict[str, str]:
    """Return the name of each source."""
    inside = {source: _below(source, root) for source in dict.fromkeys(sources)}
    names = {source: name for source, name in inside.items() if name is not None}
    taken = set(names.values())
    for source, name in inside.items():
        if name is None:
            parts = Path(source).parts
            tails = ("/".join(parts[-count:]).lstrip("/") for count in range(1, len(parts) + 1))
            names[source] = next((tail for tail in tails if tail not in taken), parts[-1] if parts else source)
            taken.add(names[source])
    return names


def _below(source: str, root: str) -> str | None:
    """Return the path from `root` down to `source`, ``package.module:factory`` as it is; None for a path elsewhere."""
    if _FACTORY.fullmatch(source):
        return source
    source = os.path.abspath(source)  # noqa: PTH100 - as above
    for top, path in ((root, source), _resolved(root, source)):
        try:
            relative = os.path.relpath(path, top)
        except ValueError:  # another drive
            return None
        parts = Path(relative).parts
        if parts and parts[0] != "..":
            return "/".join(parts)
    return None


def _resolved(root: str, source: str) -> tuple[str, str]:
    """Return both with the links in the way to them followed, but not those that they are: the name is the user's."""
    folder, name = os.path.split(source)
    try:
        return os.path.realpath(root), os.path.join(os.path.realpath(folder), name)  # noqa: PTH118
    except (OSError, ValueError):
        return root, source


def _report(report: Report, names: dict[str, str], root: str) -> Report:
    own = {source: names[source] for source in _sources_of(report)}
    in_error = _renaming(own, root)

    def in_message(text: str) -> str:
        for old, new in own.items():
            text = text.replace(old, new)
        return text

    def told(finding: Finding) -> Finding:
        return replace(finding, message=in_message(finding.message), remedy=in_message(finding.remedy))

    return replace(
        report,
        source=names[report.source],
        findings=tuple(map(told, report.findings)),
        waived=tuple(replace(item, finding=told(item.finding)) for item in report.waived),
        baselined=tuple(map(told, report.baselined)),
        skipped=tuple(Skipped(code=item.code, reason=in_error(item.reason)) for item in report.skipped),
        failed=tuple(_failure(failure, in_error) for failure in report.failed),
        unread=tuple(map(in_error, report.unread)),
        comparison=_comparison(report.comparison, names, in_error),
        observation=_observation(report.observation, in_error),
    )


def _failure(failure: Failed, in_error: Rename) -> Failed:
    """Return a failure whose traceback shows the places in this package and in none above it."""
    package = str(Path(__file__).parents[2]) + os.sep
    trace = None if failure.traceback is None else in_error(failure.traceback.replace(package, ""))
    return replace(failure, error=in_error(failure.error), traceback=trace)


def _observation(observation: Observation | None, in_error: Rename) -> Observation | None:
    if observation is None:
        return None
    return replace(
        observation,
        why=in_error(observation.why),
        fails_at_one=in_error(observation.fails_at_one),
        sizes=tuple(replace(size, error=in_error(size.error)) for size in observation.sizes),
        inputs=tuple(replace(item, origin=in_error(item.origin)) for item in observation.inputs),
        command=in_error(observation.command),
        remarks=tuple(map(in_error, observation.remarks)),
    )


def _comparison(comparison: Comparison | None, names: dict[str, str], in_error: Rename) -> Comparison | None:
    if comparison is None:
        return None
    values = comparison.values
    left_out = tuple(replace(item, reason=in_error(item.reason)) for item in values.not_compared)
    return replace(
        comparison,
        reference=names[comparison.reference],
        remarks=tuple(map(in_error, comparison.remarks)),
        values=replace(values, not_compared=left_out),
    )
