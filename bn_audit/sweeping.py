"""The sweep as a Python function: run one model, and judge what it did with everything that its file says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bn_audit.audit import check_with
from bn_audit.errors import UsageError
from bn_audit.options import DEFAULT_BATCH_SIZES, Options, SweepOptions, intent_of, sizes_of
from bn_audit.subject.finding import Intent
from bn_audit.subject.report import Report
from bn_audit.subject.run import Array


def sweep(
    target: object,
    *,
    inputs: object = None,
    inputs_file: str | Path | None = None,
    batch_sizes: Sequence[int] = DEFAULT_BATCH_SIZES,
    seed: int = 0,
    quick: bool = False,
    batch_axis: int | None = None,
    weights: str | Path | None = None,
    device: str = "cpu",
    dtype: str | None = None,
    threads: int | None = None,
    trust: bool = False,
    time_limit: float = 600.0,
    memory_limit: int | None = None,
    intent: Intent | str = Intent.DEPLOY,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    progress: Callable[[str, int], None] | None = None,
) -> Report:
    """Run one model at several batch sizes, audit it as `check` does, and return the report of both.

    A model from a file or factory runs in a child process; a live module runs in this one, on a deep copy, and stays as
    it is. The measurement is the report's `observation`.

    Args:
        target: Path of a file, a ``package.module:factory`` string, or a live ``torch.nn.Module``.
        inputs: Real samples as arrays or tensors by input, with the batch axis, or one array for an only input; or
            ``NAME=DTYPE:SHAPE`` each, of one sample without it; None: drawn, as the model declares them or as its first
            layers let one deduce.
        inputs_file: Real samples: ``.npz``, ``.npy`` or ``.safetensors``.
        batch_sizes: To compare with each other.
        seed: Every random draw follows from it.
        quick: Four passes at the largest size and one at every other, in place of every measurement.
        batch_axis: Axis of the samples, where it is not the first and the artifact does not say.
        weights: State dict to load into a factory's model.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: Element type to run in; None for the model's own.
        threads: Of the backend; None for its own choice.
        trust: Running the model may run code in its file.
        time_limit: Seconds.
        memory_limit: Bytes for the child process, where the platform has such a limit.
        intent: What the artifact is meant for.
        select: Code prefixes to check; empty for all.
        ignore: Code prefixes not to check.
        progress: Called before each step with what it is and the number of forward passes so far.

    A model that cannot be run is a failure in the report, beside its other findings.

    Raises:
        UsageError: a value is none of its argument, or a directory.
        ArtifactError: the target is missing, unreadable or holds no model.
    """
    described, samples = _given(inputs)
    options = Options(
        intent=intent_of(intent),
        weights=None if weights is None else str(weights),
        select=tuple(select),
        ignore=tuple(ignore),
        sweep=SweepOptions(
            batch_sizes=sizes_of(batch_sizes),
            tier="quick" if quick else "full",
            inputs=described,
            inputs_file=None if inputs_file is None else str(inputs_file),
            batch_axis=batch_axis,
            device=device,
            dtype=dtype,
            threads=threads,
            seed=seed,
            trust=trust,
            time_limit=time_limit,
            memory_limit=memory_limit,
        ),
    )
    return check_with(target, options, samples=samples, say=progress)


def _given(inputs: object) -> tuple[tuple[str, ...], dict[str, Array] | None]:
    """Return the descriptions of inputs, and the samples."""
    if inputs is None:
        return (), None
    if isinstance(inputs, str):
        return (inputs,), None
    if isinstance(inputs, list | tuple):
        if all(isinstance(item, str) for item in inputs):
            return tuple(inputs), None
        raise UsageError(
            f"inputs: a {type(inputs).__name__} of {type(inputs[0]).__name__} names no input: "
            "give {name: array}, one array for the only input, or NAME=DTYPE:SHAPE texts"
        )
    from bn_audit.sampling.arrays import from_tensors  # imports numpy

    return (), from_tensors(inputs)
