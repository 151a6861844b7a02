"""What a run is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from bn_audit.subject.finding import Intent, Severity
from bn_audit.subject.scope import ValueScope


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a run is asked for.

    Attributes:
        weights: State dict to judge in place of a factory's own parameters.
        against: Artifact, factory or live module to compare with.
        mapping: ``OLD=NEW`` each: a regular expression over the reference's names and what it becomes.
        values: Which tensors the comparison reads.
        frozen: Globs of layers that the run claims to keep frozen.
        comparison_only: Judge the comparison and not the artifact itself.
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
    against: object = None
    mapping: tuple[str, ...] = ()
    values: ValueScope = ValueScope.BATCH_NORM
    frozen: tuple[str, ...] = ()
    comparison_only: bool = False
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    fail_on: Severity = Severity.ERROR
    strict: bool = False
    exit_zero: bool = False
    jobs: int = 1
    flow: bool = True
