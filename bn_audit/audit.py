"""The pipeline: open, read, check, judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bn_audit import plugins, policy
from bn_audit.configuring import for_source
from bn_audit.containers.target import FileTarget
from bn_audit.errors import (
    ArtifactError,
    MissingTargetError,
    NoModelError,
    UnknownFormatError,
    UnsupportedFormatError,
    UsageError,
)
from bn_audit.expansion import Candidate, expand, is_factory, single
from bn_audit.judging import apply, fault, follow
from bn_audit.judging import run as observed
from bn_audit.opening import format_of, opened_target
from bn_audit.options import Options, SweepOptions, intent_of, scope_of, sizes_of
from bn_audit.reference import with_asked_reference, with_claims
from bn_audit.settling import declared_designs, known_findings, settle
from bn_audit.subject.finding import Intent
from bn_audit.subject.report import Audit, Failed, Report
from bn_audit.subject.scope import ValueScope
from bn_audit.subject.subject import Facts, Subject

if TYPE_CHECKING:
    from bn_audit.running import Say
    from bn_audit.subject.run import Array

Progress = Callable[[int, int, str], None]
"""Called with (finished, total, name of the last source)."""


def check(
    target: object,
    *,
    intent: Intent | str = Intent.DEPLOY,
    weights: str | Path | None = None,
    against: object = None,
    mapping: Sequence[str] = (),
    values: ValueScope | str = ValueScope.BATCH_NORM,
    frozen: Sequence[str] = (),
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    flow: bool = True,
    batch_sizes: Sequence[int] = (),
    trust: bool = False,
) -> Report:
    """Audit one artifact and return the report.

    Args:
        target: Path of a file, a ``package.module:factory`` string, or a live ``torch.nn.Module``.
        intent: What the artifact is meant for: ``deploy``, ``resume`` or ``finetune``.
        weights: State dict to judge in place of the factory's or module's own parameters.
        against: What to compare with: a path, a factory or a live module, as for `compare`.
        mapping: As for `compare`.
        values: As for `compare`.
        frozen: Globs of layers that the run claims to keep frozen.
        select: Code prefixes to check; empty for all.
        ignore: Code prefixes not to check.
        flow: Follow the batch through graphs, where the artifact records one.
        batch_sizes: Run the model at these sizes too, in the quick tier; `sweep` measures more.
        trust: Running the model may run code in its file.

    Without `batch_sizes` nothing in a file is executed; only a factory target is imported and called. File and module
    stay as they are.

    Raises:
        UsageError: an unknown intent or code, or a directory (`run` audits many files).
        ArtifactError: the target is missing, unreadable or holds no model.
    """
    options = Options(
        intent=intent_of(intent),
        weights=None if weights is None else str(weights),
        against=against,
        mapping=tuple(mapping),
        values=scope_of(values),
        frozen=tuple(frozen),
        select=tuple(select),
        ignore=tuple(ignore),
        flow=flow,
        sweep=SweepOptions(batch_sizes=sizes_of(batch_sizes), tier="quick", trust=trust) if batch_sizes else None,
    )
    return check_with(target, options)


def compare(
    reference: object,
    target: object,
    *,
    mapping: Sequence[str] = (),
    frozen: Sequence[str] = (),
    values: ValueScope | str = ValueScope.BATCH_NORM,
    intent: Intent | str = Intent.DEPLOY,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> Report:
    """Compare two artifacts and return the report about the target.

    Args:
        reference: What is expected: path, ``package.module:factory`` or live module.
        target: What is compared with it; the findings are about it.
        mapping: ``OLD=NEW`` each: a regular expression over the reference's names and what it becomes.
        frozen: Globs of layers that must not have moved.
        values: ``bn`` reads the norm layers and what folds and frozen layers need, ``all`` every tensor.
        intent: What the target is meant for.
        select: Code prefixes to check; empty for all.
        ignore: Code prefixes not to check.

    Raises:
        UsageError: an unknown intent, code or scope, a mapping that is none, or a directory of several artifacts.
        ArtifactError: either side is missing, unreadable or holds no model, or they have nothing in common.
    """
    options = Options(
        intent=intent_of(intent),
        against=reference,
        mapping=tuple(mapping),
        values=scope_of(values),
        frozen=tuple(frozen),
        comparison_only=True,
        select=tuple(select),
        ignore=tuple(ignore),
    )
    return check_with(target, options)


def run(targets: Sequence[str], options: Options, progress: Progress | None = None, say: Say | None = None) -> Audit:
    """Audit every artifact that `targets` name (files, directories, globs, factories) and return all reports.

    What cannot be read becomes a report with a failure; the others are audited all the same.

    Args:
        progress: Called after each source.
        say: Called before each step of running a model, where models are run and nothing is read in parallel.

    Raises:
        UsageError: an unknown code, options that do not fit the targets, or a baseline that cannot be read.
    """
    known = known_findings(options)
    chosen = policy.select_rules(plugins.rules(), options.select, options.ignore)
    if options.weights is not None and not all(is_factory(target) for target in targets):
        raise UsageError("--weights goes with a package.module:factory target: a file already holds its own weights")
    candidates, listed = expand([single(target) for target in targets] if options.comparison_only else targets)
    reports: list[Report] = []
    unread: list[Report] = []
    for report, reason in _reports(candidates, options, progress, say):
        if reason is None:
            reports.append(report)
        else:
            listed.append((report.source, reason))
            unread += [report] if report.unread else []
    if not reports:
        found = f"; {len(listed)} {'file is' if len(listed) == 1 else 'files are'} listed" if listed else ""
        failure = Failed(stage="read", error=f"no model found in {', '.join(targets)}{found}: name a model file")
        reports.append(Report(source=", ".join(targets), format=None, intent=options.intent, failed=(failure,)))
    settled = settle(reports, options, known, chosen)
    code = policy.exit_code(
        [*settled.reports, *unread],
        fail_on=options.fail_on,
        strict=options.strict,
        exit_zero=options.exit_zero,
        unused_waivers=len(settled.unused_waivers),
    )
    return Audit(
        reports=settled.reports,
        intent=options.intent,
        fail_on=options.fail_on,
        exit_code=code,
        listed=tuple(listed),
        unused_waivers=settled.unused_waivers,
        resolved=settled.resolved,
        settings=options.settings,
        rules=tuple(rule.described(options.intent) for rule in policy.meant(chosen, options.comparison_only)),
    )


@contextmanager
def read_subject(target: object, weights: str | None = None) -> Iterator[Subject]:
    """Give what is known about one artifact; its tensors can be loaded inside the block.

    Raises:
        ArtifactError: the target is missing, unreadable or holds no model.
    """
    with opened_target(target, weights) as opened:
        yield format_of(opened).read(opened)


def check_with(
    target: object,
    options: Options,
    *,
    in_run: bool = False,
    samples: Mapping[str, Array] | None = None,
    say: Say | None = None,
) -> Report:
    """Audit one artifact as `options` say; see `check` for what it may raise.

    Args:
        in_run: Among others: what prevents a comparison is a failure beside the findings.
        samples: Real samples by input, where the model is run.
        say: Called before each step of running a model.
    """
    chosen = policy.select_rules(plugins.rules(), options.select, options.ignore)
    rules = policy.meant(chosen, options.comparison_only)
    named = single(target) if options.comparison_only and isinstance(target, str) else target
    with opened_target(named, options.weights, without_memory=options.comparison_only) as opened:
        subject = with_claims(format_of(opened).read(opened), options.frozen)
        subject = replace(subject, declared=declared_designs(options, subject.source))
        subject, flow_seconds, unfollowed = _with_flow(subject, options)
        subject, uncompared = with_asked_reference(subject, options, in_run=in_run)
        subject, not_run, unrun = observed(subject, opened, options, samples, say)
        is_judged = subject.comparison is not None or not options.comparison_only
        findings, skipped, failed, checked = apply(rules if is_judged else (), subject)
        source = opened.source if isinstance(opened, FileTarget) else None
        return Report(
            source=subject.source,
            format=subject.format,
            intent=options.intent,
            size_bytes=source.size if source else 0,
            bytes_read=source.bytes_read if source else 0,
            models=subject.models,
            norms=subject.norms,
            findings=policy.judge(findings, rules, options.intent, subject.frozen, options.severities),
            skipped=(*not_run, *skipped),
            failed=(*unfollowed, *uncompared, *unrun, *failed),
            batch_flow=subject.batch_flow if Facts.BATCH_FLOW in subject.facts else None,
            flow_seconds=flow_seconds,
            observation=subject.observation,
            comparison=subject.comparison,
            comparison_only=options.comparison_only,
            frozen=subject.frozen,
            unread=subject.unread,
            deselected=policy.deselected(plugins.rules(), chosen, comparison_only=options.comparison_only),
            checked=tuple(checked),
        )


def _with_flow(subject: Subject, options: Options) -> tuple[Subject, float | None, tuple[Failed, ...]]:
    return follow(subject, options) if options.flow and not options.comparison_only else (subject, None, ())


def _reports(
    candidates: Sequence[Candidate], options: Options, progress: Progress | None, say: Say | None
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
        checked = (_check_candidate(candidate, options, say) for candidate in candidates)
        yield from _counted(checked, total, progress)


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


def _check_candidate(candidate: Candidate, options: Options, say: Say | None = None) -> tuple[Report, str | None]:
    """Audit one file of a run; a failure becomes part of the report, unless nobody asked for that very file."""
    options = for_source(options, candidate.name)
    empty = Report(source=candidate.name, format=None, intent=options.intent)
    try:
        return check_with(candidate.name, options, in_run=True, say=say), None
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
        failure = fault("read", error)
    return Report(source=candidate.name, format=None, intent=options.intent, failed=(failure,)), None
