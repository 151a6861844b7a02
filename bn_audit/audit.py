"""The pipeline: open, read, check, judge."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bn_audit import plugins, policy
from bn_audit.containers.target import FileTarget
from bn_audit.errors import (
    ArtifactError,
    BnAuditError,
    MissingTargetError,
    NoModelError,
    UnknownFormatError,
    UnsupportedFormatError,
    UsageError,
)
from bn_audit.expansion import Candidate, expand, is_factory
from bn_audit.interfaces import Rule
from bn_audit.opening import format_of, opened_target
from bn_audit.subject.finding import Finding, Intent, Severity
from bn_audit.subject.report import Audit, Failed, Report, Skipped
from bn_audit.subject.subject import FACT_REASONS, Facts, Subject

Progress = Callable[[int, int, str], None]
"""Called with (finished, total, name of the last source)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a run is asked for.

    Attributes:
        weights: State dict to judge in place of a factory's own parameters.
        select: Code prefixes to check; empty for all.
        ignore: Code prefixes not to check.
        fail_on: The level at which a finding fails the run.
        strict: What was not checked fails the run too.
        exit_zero: Findings do not fail the run.
        jobs: Number of processes for several files.
        flow: Follow the batch through graphs, where the artifact records one.
    """

    intent: Intent = Intent.DEPLOY
    weights: str | None = None
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    fail_on: Severity = Severity.ERROR
    strict: bool = False
    exit_zero: bool = False
    jobs: int = 1
    flow: bool = True


def check(
    target: object,
    *,
    intent: Intent | str = Intent.DEPLOY,
    weights: str | Path | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    flow: bool = True,
) -> Report:
    """Audit one artifact and return the report.

    Args:
        target: Path of a file, a ``package.module:factory`` string, or a live ``torch.nn.Module``.
        intent: What the artifact is meant for: ``deploy``, ``resume`` or ``finetune``.
        weights: State dict to judge in place of the factory's or module's own parameters.
        select: Code prefixes to check; empty for all.
        ignore: Code prefixes not to check.
        flow: Follow the batch through graphs, where the artifact records one.

    Nothing in a file is executed; only a factory target is imported and called. File and module stay as they are.

    Raises:
        UsageError: an unknown intent or code, or a directory (`run` audits many files).
        ArtifactError: the target is missing, unreadable or holds no model.
    """
    options = Options(
        intent=_intent(intent),
        weights=None if weights is None else str(weights),
        select=tuple(select),
        ignore=tuple(ignore),
        flow=flow,
    )
    return _check(target, options)


def run(targets: Sequence[str], options: Options, progress: Progress | None = None) -> Audit:
    """Audit every artifact that `targets` name (files, directories, globs, factories) and return all reports.

    What cannot be read becomes a report with a failure; the others are audited all the same.

    Raises:
        UsageError: an unknown code, or options that do not fit the targets.
    """
    policy.select_rules(plugins.rules(), options.select, options.ignore)
    if options.weights is not None and not all(is_factory(target) for target in targets):
        raise UsageError("--weights goes with a package.module:factory target: a file already holds its own weights")
    candidates, listed = expand(targets)
    reports: list[Report] = []
    unread: list[Report] = []
    for report, reason in _reports(candidates, options, progress):
        if reason is None:
            reports.append(report)
        else:
            listed.append((report.source, reason))
            unread += [report] if report.unread else []
    if not reports:
        found = f"; {len(listed)} {'file is' if len(listed) == 1 else 'files are'} listed" if listed else ""
        failure = Failed(stage="read", error=f"no model found in {', '.join(targets)}{found}: name a model file")
        reports.append(Report(source=", ".join(targets), format=None, intent=options.intent, failed=(failure,)))
    code = policy.exit_code(
        [*reports, *unread], fail_on=options.fail_on, strict=options.strict, exit_zero=options.exit_zero
    )
    return Audit(
        reports=tuple(reports),
        intent=options.intent,
        fail_on=options.fail_on,
        exit_code=code,
        listed=tuple(listed),
    )


@contextmanager
def read_subject(target: object, weights: str | None = None) -> Iterator[Subject]:
    """Give what is known about one artifact; its tensors can be loaded inside the block.

    Raises:
        ArtifactError: the target is missing, unreadable or holds no model.
    """
    with opened_target(target, weights) as opened:
        yield format_of(opened).read(opened)


def _check(target: object, options: Options) -> Report:
    rules = policy.select_rules(plugins.rules(), options.select, options.ignore)
    with opened_target(target, options.weights) as opened:
        subject = format_of(opened).read(opened)
        subject, flow_seconds, unfollowed = _with_flow(subject, options)
        findings, skipped, failed = _apply(rules, subject)
        source = opened.source if isinstance(opened, FileTarget) else None
        return Report(
            source=subject.source,
            format=subject.format,
            intent=options.intent,
            size_bytes=source.size if source else 0,
            bytes_read=source.bytes_read if source else 0,
            models=subject.models,
            norms=subject.norms,
            findings=policy.judge(findings, rules, options.intent),
            skipped=tuple(skipped),
            failed=(*unfollowed, *failed),
            batch_flow=subject.batch_flow if Facts.BATCH_FLOW in subject.facts else None,
            flow_seconds=flow_seconds,
            unread=subject.unread,
            deselected=tuple(rule.code for rule in plugins.rules() if rule not in rules),
        )


def _with_flow(subject: Subject, options: Options) -> tuple[Subject, float | None, tuple[Failed, ...]]:
    """Return the subject with the proof of each of its graphs, the seconds that took, and what failed."""
    if not options.flow or not subject.graphs:
        return subject, None, ()
    from bn_audit.flow.proof import prove  # imports numpy, which only graphs need

    try:
        proofs = [prove(graph, model=route) for route, graph in subject.graphs.items()]
    except Exception as error:  # the one boundary: what the reader found stands without the proof
        return subject, None, (_fault("batch-flow", error),)
    followed = replace(
        subject,
        facts=subject.facts | Facts.BATCH_FLOW,
        batch_flow=tuple(output for proof in proofs for output in proof.outputs),
        flow_marks=tuple(mark for proof in proofs for mark in proof.marks),
    )
    return followed, sum(proof.seconds for proof in proofs), ()


def _apply(rules: Sequence[Rule], subject: Subject) -> tuple[list[Finding], list[Skipped], list[Failed]]:
    findings: list[Finding] = []
    skipped: list[Skipped] = []
    failed: list[Failed] = []
    for rule in rules:
        try:
            if not rule.concerns(subject):
                continue
            lacking = rule.needs & ~subject.facts
            if lacking:
                reasons = "; ".join(FACT_REASONS[fact] for fact in Facts if fact in lacking)
                skipped.append(Skipped(code=rule.code, reason=reasons))
                continue
            findings.extend(rule.check(subject))
            skipped.extend(Skipped(code=rule.code, reason=reason) for reason in rule.open_questions(subject))
        except BnAuditError as error:
            failed.append(Failed(stage=rule.code, error=str(error)))
        except Exception as error:  # the one boundary: a faulty rule must not hide what the others found
            failed.append(_fault(rule.code, error))
    return findings, skipped, failed


def _fault(stage: str, error: Exception) -> Failed:
    return Failed(
        stage=stage,
        error=f"internal error, please report it: {type(error).__name__}: {error}",
        traceback="".join(traceback.format_exception(error)),
    )


def _reports(
    candidates: Sequence[Candidate], options: Options, progress: Progress | None
) -> Iterator[tuple[Report, str | None]]:
    """Yield (report, None), or (empty report, what the file is instead) for files that hold no model."""
    total = len(candidates)
    if options.jobs > 1 and total > 1:
        from concurrent.futures import ProcessPoolExecutor

        with ProcessPoolExecutor(min(options.jobs, total)) as pool:
            results: Iterator[tuple[Report, str | None]] = pool.map(
                _check_detached, candidates, [options] * total, chunksize=1
            )
            yield from _counted(results, total, progress)
    else:
        yield from _counted((_check_candidate(candidate, options) for candidate in candidates), total, progress)


def _counted(
    results: Iterator[tuple[Report, str | None]], total: int, progress: Progress | None
) -> Iterator[tuple[Report, str | None]]:
    for finished, (report, reason) in enumerate(results, start=1):
        if progress is not None:
            progress(finished, total, report.source)
        yield report, reason


def _check_detached(candidate: Candidate, options: Options) -> tuple[Report, str | None]:
    report, reason = _check_candidate(candidate, options)
    return report.detached(), reason


def _check_candidate(candidate: Candidate, options: Options) -> tuple[Report, str | None]:
    """Audit one file of a run; a failure becomes part of the report, unless nobody asked for that very file."""
    empty = Report(source=candidate.name, format=None, intent=options.intent)
    try:
        return _check(candidate.name, options), None
    except UsageError:
        raise
    except (NoModelError, UnknownFormatError, UnsupportedFormatError) as error:
        if candidate.is_optional(error):
            reason = str(error).removeprefix(f"{candidate.name}: ")
            is_model = isinstance(error, UnsupportedFormatError)
            return replace(empty, unread=(reason,) if is_model else ()), reason
        failure = Failed(stage="read", error=str(error))
    except (ArtifactError, MissingTargetError) as error:
        failure = Failed(stage="read", error=str(error))
    except Exception as error:  # the one boundary: one file must not end the run
        failure = _fault("read", error)
    return Report(source=candidate.name, format=None, intent=options.intent, failed=(failure,)), None


def _intent(intent: Intent | str) -> Intent:
    try:
        return Intent(intent)
    except ValueError:
        known = ", ".join(item.value for item in Intent)
        raise UsageError(f"unknown intent {intent!r}: one of {known}") from None
