"""Assertions for the tests of a project: a model is ready for inference, its answers do not depend on the batch.

from bn_audit.testing import assert_batch_independent, assert_inference_ready

def test_model():
    model = make_model()
    assert_inference_ready(model)
    assert_batch_independent(model, inputs={"x": samples})
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bn_audit.errors import UsageError
from bn_audit.options import DEFAULT_BATCH_SIZES
from bn_audit.policy import exit_code
from bn_audit.styled import clean
from bn_audit.subject.finding import Finding, Intent, Location, Severity
from bn_audit.subject.observation import CONTENT, INDEPENDENT, POSITION, SIZE, Observation, Place
from bn_audit.subject.report import Report

__tracebackhide__ = True
"""pytest shows the assertion where the test makes it, not in here."""

_PLACES = 10
"""Layers that a message names for one finding."""

_MEANING = {
    CONTENT: "the answer for a sample depends on the other samples of its batch",
    POSITION: "the answer for a sample depends on its row in the batch",
    SIZE: "the answer for a sample depends on the number of rows in its batch",
}
_USE_EVAL = "set those layers to evaluation: model.eval(), and bn_audit.freeze_bn(model) to keep them there"
_LOOK_THERE = "reduce, normalise and compare within each sample there; 'bn-audit explain BN401' tells more"
_GIVE_INPUTS = "give inputs={name: array} with real samples, and see that the model runs on them"


def assert_inference_ready(
    target: object,
    *,
    intent: Intent | str = Intent.DEPLOY,
    ignore: Sequence[str] = (),
    select: Sequence[str] = (),
    frozen: Sequence[str] = (),
    weights: str | Path | None = None,
    against: object = None,
    fail_on: Severity | str = Severity.ERROR,
    strict: bool = False,
) -> Report:
    """Audit a model as `bn_audit.check` does, and return the report where it is clean.

    Args:
        target: A live module, a path, or ``package.module:factory``; nothing in a file is executed.
        intent: As for `bn_audit.check`, like `ignore`, `select`, `frozen`, `weights` and `against`.
        fail_on: The level from which a finding fails the assertion.
        strict: Fail also where something was not checked, or where the file records no mode.

    Raises:
        AssertionError: findings at or above `fail_on`, or something that could not be audited; the message names each
            layer and what to do.
        UsageError: an unknown intent, level or code.
        ArtifactError: the target is missing, unreadable or holds no model.
    """
    from bn_audit.audit import check

    level = _severity(fail_on)
    report = check(target, intent=intent, ignore=ignore, select=select, frozen=frozen, weights=weights, against=against)
    code = exit_code([report], fail_on=level, strict=strict, exit_zero=False)
    if code:
        shown = report.at_least(Severity.NOTE if strict else level)
        problems = [*_failures(report), *(_unchecked(report) if strict else ()), *map(_told, shown)]
        raise AssertionError("\n".join((f"{clean(report.source)} is not ready for inference", *problems)))
    return report


def assert_batch_independent(
    model: object,
    inputs: object = None,
    *,
    batch_sizes: Sequence[int] = DEFAULT_BATCH_SIZES,
    quick: bool = False,
    **settings: Any,
) -> Report:
    """Run a model as `bn_audit.sweep` does, and return the report where no answer depends on the batch.

    A difference that floating point explains is none; randomness and moving state alone are reported, and pass.

    Args:
        model: A live module, which stays as it is, a path, or ``package.module:factory``.
        inputs: Real samples by input, with the batch axis, or one array; descriptions such as ``x=float32:3x224x224``;
            None to have them drawn.
        batch_sizes: To compare with each other.
        quick: Four passes at the largest size and one at every other, in place of every measurement.
        settings: Further arguments of `bn_audit.sweep`, such as ``trust=True`` for files that hold code.

    Raises:
        AssertionError: an answer depends on companions, row or size, or the run decided nothing; the message names the
            first layer where samples mix and what to do.
        UsageError: a value is none of its argument.
        ArtifactError: the target is missing, unreadable or holds no model.
    """
    from bn_audit.sweeping import sweep

    report = sweep(model, inputs=inputs, batch_sizes=batch_sizes, quick=quick, **settings)
    seen = report.observation
    if seen is not None and seen.verdict == INDEPENDENT and not report.failed:
        return report
    lines = [f"{clean(report.source)}: {'it was not run' if seen is None else _verdict(seen)}"]
    lines += _measured(seen) if seen is not None else []
    lines += [*_failures(report), *map(_told, report.at_least(Severity.WARNING))]
    raise AssertionError("\n".join(lines))


def _verdict(seen: Observation) -> str:
    meaning = _MEANING.get(seen.verdict)
    if meaning is None:
        return clean(f"no verdict ({seen.verdict})")
    return meaning if seen.effect is None else f"{meaning}, by {seen.effect:.2g} of its largest element"


def _measured(seen: Observation) -> Iterator[str]:
    """Yield what the verdict rests on, where samples mix, and what to do about it."""
    if seen.why:
        yield f"  seen: {clean(seen.why)}"
    if seen.first_divergence is not None:
        yield f"  first layer where samples mix: {_place(seen.first_divergence)}"
    if seen.restored_by:
        yield f"  in evaluation these end it: {_several(seen.restored_by)}"
    if seen.norm_buffers_changed:
        yield f"  running statistics moved: {_several(seen.norm_buffers_changed)}"
    if seen.verdict not in _MEANING:
        yield f"  fix: {_GIVE_INPUTS}"
    else:
        yield f"  fix: {_USE_EVAL if seen.restored_by else _LOOK_THERE}"


def _place(place: Place) -> str:
    kinds = [kind for kind in (place.type_name.rpartition(".")[2], place.op) if kind]
    kind = f" ({', '.join(kinds)})" if kinds else ""
    return clean(f"{place.path or place.node or '(root)'}{kind}")


def _told(finding: Finding) -> str:
    """Return a finding in up to three lines: what, where, and what to do."""
    lines = [f"  {finding.severity.value} {finding.code} {finding.name}: {clean(finding.message)}"]
    if finding.locations:
        lines.append(f"    where: {_several([_where(location) for location in finding.locations])}")
    return "\n".join((*lines, f"    fix: {clean(finding.remedy)}"))


def _where(location: Location) -> str:
    place = location.path or location.node or location.tensor or "(root)"
    return f"{location.model}: {place}" if location.model else place


def _several(names: Sequence[str]) -> str:
    more = f" and {len(names) - _PLACES} more" if len(names) > _PLACES else ""
    return f"{', '.join(clean(name) for name in names[:_PLACES])}{more}"


def _failures(report: Report) -> list[str]:
    return [f"  not audited ({failure.stage}): {clean(failure.error)}" for failure in report.failed]


def _unchecked(report: Report) -> list[str]:
    skipped = [f"  not checked: {item.code}: {clean(item.reason)}" for item in report.skipped]
    return skipped + [f"  not read: {clean(reason)}" for reason in report.unread]


def _severity(level: Severity | str) -> Severity:
    try:
        return Severity(level)
    except ValueError:
        known = ", ".join(item.value for item in Severity)
        raise UsageError(f"unknown level {level!r}: one of {known}") from None
