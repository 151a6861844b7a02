"""What a run is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bn_audit.errors import UsageError
from bn_audit.subject.finding import Intent, Severity
from bn_audit.subject.scope import ValueScope

if TYPE_CHECKING:
    from bn_audit.settings.content import PathSettings
    from bn_audit.subject.waiver import Waiver

DEFAULT_BATCH_SIZES = (1, 2, 3, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOptions:
    """How to run a model.

    Attributes:
        batch_sizes: To compare with each other.
        tier: ``quick`` or ``full``.
        inputs: ``NAME=DTYPE:SHAPE`` each: one sample, without the batch axis.
        inputs_file: Real samples: ``.npz``, ``.npy`` or ``.safetensors``.
        batch_axis: Axis of the samples; None: the first, or as the artifact declares.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: Element type to run in; None for the model's own.
        threads: Of the backend; None for its own choice.
        seed: Every random draw follows from it.
        trust: Code in the file may be run.
        time_limit: Seconds for each model.
        memory_limit: Bytes for the process that runs it; None for no limit.
    """

    batch_sizes: tuple[int, ...] = DEFAULT_BATCH_SIZES
    tier: str = "full"
    inputs: tuple[str, ...] = ()
    inputs_file: str | None = None
    batch_axis: int | None = None
    device: str = "cpu"
    dtype: str | None = None
    threads: int | None = None
    seed: int = 0
    trust: bool = False
    time_limit: float = 600.0
    memory_limit: int | None = None


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
        severities: By code; they stand for every intent.
        fail_on: The level at which a finding fails the run.
        strict: What was not checked fails the run too.
        exit_zero: Findings do not fail the run.
        jobs: Number of processes for several files.
        flow: Follow the batch through graphs, where the artifact records one.
        sweep: How to run the model; None: it is not run.
        running: How to run models for which the settings alone ask for a run.
        paths: What holds for some sources only, the last one that matches first.
        waivers: Findings that are accepted on purpose.
        baseline: File of known findings to hide.
        accept_findings: Put what is found into the baselines of the reports, whatever a baseline knows.
        covers_settings: The targets are those of the settings, so that a waiver about none of them has lost its file.
        settings: The settings file that had a part in these options, as shown to people.
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
    severities: Mapping[str, Severity] = field(default_factory=dict)
    fail_on: Severity = Severity.ERROR
    strict: bool = False
    exit_zero: bool = False
    jobs: int = 1
    flow: bool = True
    sweep: SweepOptions | None = None
    running: SweepOptions = field(default_factory=SweepOptions)
    paths: tuple[PathSettings, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    baseline: str | None = None
    accept_findings: bool = False
    covers_settings: bool = False
    settings: str | None = None


def scope_of(values: ValueScope | str) -> ValueScope:
    """Return the scope of that name.

    Raises:
        UsageError: there is none.
    """
    try:
        return ValueScope(values)
    except ValueError:
        raise UsageError(f"unknown scope of values {values!r}: one of bn, all") from None


def intent_of(intent: Intent | str) -> Intent:
    """Return the intent of that name.

    Raises:
        UsageError: there is none.
    """
    try:
        return Intent(intent)
    except ValueError:
        known = ", ".join(item.value for item in Intent)
        raise UsageError(f"unknown intent {intent!r}: one of {known}") from None


def sizes_of(batch_sizes: Iterable[int]) -> tuple[int, ...]:
    """Return the batch sizes, ascending, each once.

    Raises:
        UsageError: there are none, or one is no positive number.
    """
    sizes = tuple(sorted(set(batch_sizes)))
    wrong = [size for size in sizes if not isinstance(size, int) or isinstance(size, bool) or size < 1]
    if wrong or not sizes:
        raise UsageError(f"batch sizes {list(sizes)}: {wrong[0] if wrong else 'none'}: give positive whole numbers")
    return sizes
