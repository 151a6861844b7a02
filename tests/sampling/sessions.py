"""A model that exists only as a condition on its inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from bn_audit.errors import RunError
from bn_audit.subject.run import Batch, InputSpec, Job, Run


class Stub:
    """Runs where `accepts` returns None, and fails with what it returns."""

    def __init__(
        self,
        candidates: Sequence[tuple[InputSpec, ...]],
        accepts: Callable[[Batch], str | None],
        fixed_batch: int | None = None,
    ) -> None:
        self.candidates = candidates
        self.accepts = accepts
        self.fixed_batch = fixed_batch
        self.batches: list[Batch] = []
        self.dtype = "float32"

    def input_candidates(self) -> Iterator[tuple[InputSpec, ...]]:
        yield from self.candidates

    def run(self, *batches: Batch, **_options: object) -> Run:
        self.batches.extend(batches)
        for batch in batches:
            refusal = self.accepts(batch)
            if refusal is not None:
                raise RunError(refusal)
        return Run(outputs=())


def anything(_batch: Batch) -> str | None:
    return None


def of_shape(**shapes: tuple[int, ...]) -> Callable[[Batch], str | None]:
    """A model that takes samples of these shapes, samples first."""

    def accepts(batch: Batch) -> str | None:
        for name, shape in shapes.items():
            if batch[name].shape[1:] != shape:
                return f"{name}: expected {shape}, got {batch[name].shape[1:]}"
        return None

    return accepts


def job(**changes: object) -> Job:
    return Job(**{"source": "model.onnx", "format": "onnx", **changes})
