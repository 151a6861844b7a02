"""What happens to an artifact once it is read: its graphs are followed, and every rule looks at it."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bn_audit.containers.target import Target
from bn_audit.errors import ArtifactError, BnAuditError
from bn_audit.interfaces import Rule
from bn_audit.options import Options
from bn_audit.subject.finding import Finding
from bn_audit.subject.report import Failed, Skipped
from bn_audit.subject.run_verdict import is_fault_of_model
from bn_audit.subject.subject import FACT_REASONS, Facts, Subject

if TYPE_CHECKING:
    from bn_audit.running import Say
    from bn_audit.subject.run import Array


def follow(subject: Subject, options: Options) -> tuple[Subject, float | None, tuple[Failed, ...]]:
    """Return the subject with the proof of each of its graphs, the seconds that took, and what failed."""
    if not subject.graphs:
        return subject, None, ()
    from bn_audit.flow.proof import prove  # imports numpy, which only graphs need

    try:
        axis = None if options.sweep is None else options.sweep.batch_axis
        proofs = [prove(graph, model=route, batch_axis=axis) for route, graph in subject.graphs.items()]
    except Exception as error:  # the one boundary: what the reader found stands without the proof
        return subject, None, (fault("batch-flow", error),)
    followed = replace(
        subject,
        facts=subject.facts | Facts.BATCH_FLOW,
        batch_flow=tuple(output for proof in proofs for output in proof.outputs),
        flow_marks=tuple(mark for proof in proofs for mark in proof.marks),
    )
    return followed, sum(proof.seconds for proof in proofs), ()


def run(
    subject: Subject,
    target: Target,
    options: Options,
    samples: Mapping[str, Array] | None = None,
    say: Say | None = None,
) -> tuple[Subject, tuple[Skipped, ...], tuple[Failed, ...]]:
    """Return the subject with what its model did when it was run, why it was not run, and what failed.

    Args:
        samples: Real samples by input, in place of drawn ones.
        say: Called before each step of a run.

    Raises:
        UsageError: the inputs are not described in the documented form.
    """
    if options.sweep is None or options.comparison_only:
        return subject, (), ()
    from bn_audit.measuring.observing import STAGE, cannot_run, observe  # imports numpy

    try:
        observed = observe(subject, target, options.sweep, weights=options.weights, samples=samples, say=say)
    except ArtifactError as error:
        return (
            replace(subject, observation=cannot_run(options.sweep, error)),
            (),
            (Failed(stage=STAGE, error=str(error)),),
        )
    except BnAuditError:
        raise
    except Exception as error:  # the one boundary: the static findings stand without the run
        return subject, (), (fault(STAGE, error),)
    if isinstance(observed, Skipped):
        return subject, (observed,), ()
    lost = [size for size in observed.sizes if size.error and not is_fault_of_model(size.error)]
    failed = tuple(Failed(stage=STAGE, error=f"batch size {size.batch_size}: {size.error}") for size in lost)
    return replace(subject, facts=subject.facts | Facts.OBSERVATION, observation=observed), (), failed


def apply(rules: Sequence[Rule], subject: Subject) -> tuple[list[Finding], list[Skipped], list[Failed], list[str]]:
    """Return what the rules found, what they could not check, which of them failed, and the codes that looked."""
    findings: list[Finding] = []
    checked: list[str] = []
    skipped: list[Skipped] = []
    failed: list[Failed] = []
    for rule in rules:
        try:
            if not rule.concerns(subject):
                continue
            lacking = rule.lacks(subject.facts)
            if lacking:
                reasons = "; ".join(FACT_REASONS[fact] for fact in Facts if fact in lacking)
                skipped.append(Skipped(code=rule.code, reason=reasons))
                continue
            findings.extend(rule.check(subject))
            skipped.extend(Skipped(code=rule.code, reason=reason) for reason in rule.open_questions(subject))
            checked.append(rule.code)
        except BnAuditError as error:
            failed.append(Failed(stage=rule.code, error=str(error)))
        except Exception as error:  # the one boundary: a faulty rule must not hide what the others found
            failed.append(fault(rule.code, error))
    return findings, skipped, failed, checked


def fault(stage: str, error: Exception) -> Failed:
    """Return an error that nobody expected, with its traceback."""
    return Failed(
        stage=stage,
        error=f"internal error, please report it: {type(error).__name__}: {error}",
        traceback="".join(traceback.format_exception(error)),
    )
