"""The other side of a comparison: opened, read, and set beside the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bn_audit.containers.target import FileTarget
from bn_audit.errors import ArtifactError
from bn_audit.expansion import single
from bn_audit.opening import format_of, opened_target
from bn_audit.options import Options
from bn_audit.subject.report import Failed
from bn_audit.subject.scope import ValueScope
from bn_audit.subject.subject import Facts, Subject


def with_claims(subject: Subject, frozen: Sequence[str]) -> Subject:
    """Return the subject with what each pattern of frozen layers matches in it.

    Raises:
        UsageError: an empty pattern.
    """
    if not frozen:
        return subject
    from bn_audit.alignment.claims import match_frozen  # few runs claim anything

    return replace(subject, frozen=match_frozen(subject, frozen))


def with_asked_reference(subject: Subject, options: Options, *, in_run: bool) -> tuple[Subject, tuple[Failed, ...]]:
    """Return the subject beside the reference that `options` name, if any; in a run, what prevents that is a failure.

    Raises:
        UsageError, ArtifactError: as `with_reference`; the latter only outside of a run.
    """
    if options.against is None:
        return subject, ()
    try:
        return with_reference(subject, options.against, mapping=options.mapping, scope=options.values), ()
    except ArtifactError as error:
        if not in_run:
            raise
        return subject, (Failed(stage="compare", error=str(error)),)


def with_reference(subject: Subject, reference: object, *, mapping: Sequence[str], scope: ValueScope) -> Subject:
    """Return the subject beside its reference; every value that this needs is read here.

    Args:
        reference: Path of a file or directory of shards, ``package.module:factory``, or a live module. A factory
            builds without memory where that is possible.
        mapping: ``OLD=NEW`` each, where OLD is a regular expression over the reference's tensor names.

    Raises:
        UsageError: a mapping that is none, or a directory of several artifacts.
        ArtifactError: the reference is missing, unreadable, holds no model, or has nothing in common with the target.
    """
    from bn_audit.alignment.naming import parse_mapping
    from bn_audit.alignment.whole import compare_subjects  # imports numpy, which only comparisons need

    rules = parse_mapping(mapping)
    named = single(reference) if isinstance(reference, str) else reference
    with opened_target(named, None, without_memory=True) as opened:
        other = format_of(opened).read(opened)
        comparison = compare_subjects(other, subject, rules=rules, scope=scope)
        source = opened.source if isinstance(opened, FileTarget) else None
        comparison = replace(
            comparison,
            reference_size_bytes=source.size if source else 0,
            reference_bytes_read=source.bytes_read if source else 0,
            remarks=(*comparison.remarks, *other.remarks, *subject.remarks),
        )
    return replace(subject, comparison=comparison, facts=subject.facts | Facts.REFERENCE)
