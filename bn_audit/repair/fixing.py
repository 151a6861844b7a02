"""Repairs a file: audit, plan, write, and audit what was written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bn_audit import audit
from bn_audit.errors import UsageError
from bn_audit.expansion import is_factory
from bn_audit.options import Options
from bn_audit.repair.changes import Repair
from bn_audit.repair.planning import planned
from bn_audit.subject.report import Audit
from bn_audit.subject.waiver import Waiver
from bn_audit.waiving import applying


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """What became of a file.

    Attributes:
        repair: What was changed, or would be; None where the file could not be read.
        before: The audit of the file.
        after: The audit of what was written; None where nothing was.
    """

    repair: Repair | None
    before: Audit
    after: Audit | None = None


def fix(
    target: str | Path,
    output: str | Path | None,
    *,
    options: Options | None = None,
    free_batch: bool = False,
    overwrite: bool = False,
) -> Fixed:
    """Write a repaired copy of a model file, and audit it; the file itself stays as it is.

    Args:
        target: Path of the file.
        output: Path of the copy; None to see what would change.
        options: How both are audited; `sweep` says how the copy is run. Its waivers also say what is meant.
        free_batch: Free a batch size that an ONNX file declares.
        overwrite: Replace a file that is at `output` already.

    What needs judgement is left as it is and named in `Repair.refused`. Nothing in the file is executed.

    Raises:
        UsageError: no file, or an output that exists or is the file itself.
    """
    name = str(target)
    if is_factory(name) or Path(name).is_dir():
        raise UsageError(f"{name}: name one model file; a factory is repaired in its own code")
    copy = None if output is None else _checked(name, Path(output), overwrite=overwrite)
    given = options or Options()
    before = audit.run([name], replace(given, sweep=None, jobs=1))
    report = before.reports[0]
    if any(failure.stage == "read" for failure in report.failed):
        return Fixed(repair=None, before=before)
    with planned(name, report, waivers=given.waivers, free_batch=free_batch) as repair:
        if copy is None or repair.write is None or not repair.changes:
            return Fixed(repair=repair, before=before)
        try:
            repair.write(copy)
        except OSError as error:
            raise UsageError(f"{copy}: cannot be written ({error.strerror or error})") from error
    waivers = tuple(_anywhere(applying(given.waivers, name)))
    after = audit.run([str(copy)], replace(given, waivers=waivers, covers_settings=False, jobs=1))
    return Fixed(repair=repair, before=before, after=after)


def _checked(name: str, output: Path, *, overwrite: bool) -> Path:
    if output.exists() and Path(name).exists() and output.samefile(name):
        raise UsageError(f"{output}: is the model itself, which is left as it is: write to another file")
    if output.is_dir() or not output.parent.is_dir():
        raise UsageError(f"{output}: is no file in a folder that exists: name one")
    if output.exists() and not overwrite:
        raise UsageError(f"{output}: exists already: name another file, or add --overwrite")
    return output


def _anywhere(waivers: Sequence[Waiver]) -> list[Waiver]:
    """Return the waivers of the original for its copy, whatever that is called."""
    return [replace(waiver, path=None) for waiver in waivers]
