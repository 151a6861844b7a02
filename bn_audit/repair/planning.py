"""From a file to what can be set right in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from bn_audit.containers.target import FileTarget
from bn_audit.errors import UsageError
from bn_audit.opening import format_of, opened_target
from bn_audit.repair.changes import Repair
from bn_audit.repair.flags import Flag
from bn_audit.subject.design import Design
from bn_audit.subject.finding import Finding, Location, Severity
from bn_audit.subject.report import Report
from bn_audit.subject.subject import Form, Subject
from bn_audit.subject.waiver import Waiver
from bn_audit.waiving import declaring, is_about, today

ADVICE = {
    "exported-program": "the mode of an exported program is part of its code: export the model again after eval()",
    "safetensors": "safetensors record no mode: call model.eval() in the code that loads it",
    "live-module": "a live module is repaired by model.eval()",
}
"""What to do about files that are not repaired, by format."""

BAKED, FLAGGED = "BN308", "BN309"
"""TorchScript in training mode by a constant in its code, and by a flag."""


@contextmanager
def planned(path: str, report: Report, *, waivers: Sequence[Waiver] = (), free_batch: bool = False) -> Iterator[Repair]:
    """Give what can be set right in a file; it can be written inside the block.

    Args:
        report: The audit of the file.
        waivers: Modules that a waiver with a declared design names stay as they are.
        free_batch: Free a batch size that an ONNX file declares.

    Raises:
        UsageError: no file.
        ArtifactError: it cannot be read.
    """
    with opened_target(path, None) as target:
        if not isinstance(target, FileTarget):
            raise UsageError(f"{path}: not a file: a factory is repaired in its own code")
        found = format_of(target)
        repair = _planned(
            target, found.read(target), report, _Kept(declaring(waivers, path, today())), free_batch=free_batch
        )
        yield _with_what_is_left(repair, report)


def _with_what_is_left(repair: Repair, report: Report) -> Repair:
    """Return the repair; where it changes nothing although the audit found errors, these are named as refused."""
    if repair.changes or repair.refused:
        return repair
    errors = [finding for finding in report.findings if finding.severity is Severity.ERROR]
    return replace(repair, refused=tuple(_in_a_sentence(finding) for finding in errors))


def _in_a_sentence(finding: Finding) -> str:
    remedy = finding.remedy.rstrip(".")
    return f"{finding.code} {finding.name}: {finding.message}: {remedy[:1].lower()}{remedy[1:]}"


def _planned(target: FileTarget, subject: Subject, report: Report, kept: _Kept, *, free_batch: bool) -> Repair:
    if subject.format == "onnx":
        from bn_audit.repair.onnx_graph import repair_graph  # imports the onnx package

        return repair_graph(target, subject, report, kept.reason, free_batch=free_batch)
    from bn_audit.repair.pickled import repair_modules, repair_scripted

    if free_batch:
        raise UsageError(f"{target.name}: --free-batch is for ONNX files")
    if subject.format == "torchscript":
        codes = {finding.code for finding in report.findings}
        if BAKED in codes and FLAGGED not in codes:  # the code reads no flag
            return Repair(source=target.name, format=subject.format)
        return repair_scripted(target, subject, kept.of_flag)
    if subject.format == "torch-checkpoint" and any(model.form is Form.MODULE for model in subject.models):
        return repair_modules(target, subject, kept.of_flag)
    advice = ADVICE.get(subject.format, "a state dict records no mode: call model.eval() in the code that loads it")
    return Repair(source=target.name, format=subject.format, refused=(advice,))


class _Kept:
    """What declared designs keep in training mode: dropout for sampling, norms that use the batch on purpose."""

    def __init__(self, waivers: Sequence[Waiver]) -> None:
        self._waivers = waivers

    def of_flag(self, flag: Flag) -> str | None:
        """Return the reason for which a module keeps its flag."""
        return self.reason(Location(model=flag.route, path=flag.path), flag.type_name)

    def reason(self, place: Location, type_name: str) -> str | None:
        """Return the reason for which a module or node stays as it is."""
        kind = type_name.lower()
        design = Design.MC_DROPOUT if "dropout" in kind else Design.BATCH_STATISTICS if "norm" in kind else None
        found = (waiver for waiver in self._waivers if waiver.intent is design and is_about(waiver, place))
        return next((waiver.reason for waiver in found), None) if design is not None else None
