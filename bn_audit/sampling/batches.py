"""Batches for one model: the same arguments give the same arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bn_audit.errors import RunError
from bn_audit.sampling.dtypes import dtype_name, is_inexact, numpy_dtype
from bn_audit.sampling.values import Choice, Kind, ValueSource, drawn, nudged
from bn_audit.subject.run import Array, Batch, InputSpec

MAX_BATCH_BYTES = 4 << 30
"""Of the inputs of one batch; several batches are in memory at a time, and a model needs many times as much."""

_ATTEMPTS = 4
"""How often a sample that equals an earlier one of its batch is drawn anew."""

_SHARED = 1 << 40
"""Seed of what all samples of all batches share."""

_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnBatches:
    """The `Plan` of a model: see `bn_audit.running.Plan`.

    Attributes:
        specs: The inputs with every size of one sample decided.
        sources: Where the values of each input come from.
        seed: Of the whole run.
        fixed_batch: The only batch size; None where any will do.
        free_axes: Axes of the full shape, by input, that may grow together.
        tries: Forward passes that finding these inputs took.
    """

    specs: tuple[InputSpec, ...]
    sources: tuple[ValueSource, ...]
    seed: int
    fixed_batch: int | None = None
    free_axes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    tries: int = 0

    @property
    def has_floats(self) -> bool:
        """Whether any input is of a floating-point type, so that it can be scaled and jittered."""
        return any(is_inexact(spec.dtype) for spec in self.specs)

    def draw(self, batch_size: int, seed: int, scale: float = 1.0) -> Batch:
        """Return distinct samples; floating-point inputs that belong to a sample times `scale`.

        The samples of a smaller batch of the same seed are the first ones of a larger. What all samples share is the
        same for every seed.

        Raises:
            RunError: the batch takes more than `MAX_BATCH_BYTES`.
        """
        self._require_room(batch_size)
        choices = self._choices(batch_size, seed)
        samples: list[tuple[Array, ...]] = []
        seen: set[bytes] = set()
        for row in range(batch_size):
            for attempt in range(_ATTEMPTS):
                sample = self._sample(seed, row, attempt, choices[row] if choices else None, scale)
                content = b"".join(values.tobytes() for values in sample)
                if content not in seen:
                    break
            seen.add(content)
            samples.append(sample)
        own = iter(range(len(self.specs)))
        batch: dict[str, Array] = {}
        for index, spec in enumerate(self.specs):
            if spec.batch_axis is None:
                batch[spec.name] = self._shared(index)
            else:
                position = next(own)
                batch[spec.name] = np.stack([sample[position] for sample in samples], axis=spec.batch_axis)
        return batch

    def _require_room(self, batch_size: int) -> None:
        own = [source for spec, source in zip(self.specs, self.sources, strict=True) if spec.batch_axis is not None]
        needed = batch_size * sum(math.prod(source.shape) * numpy_dtype(source.dtype).itemsize for source in own)
        if needed > MAX_BATCH_BYTES:
            raise RunError(
                f"a batch of {batch_size} samples takes {needed} bytes, more than {MAX_BATCH_BYTES}: choose smaller "
                "--batch-sizes"
            )

    def _sample(self, seed: int, row: int, attempt: int, choice: Choice | None, scale: float) -> tuple[Array, ...]:
        return tuple(
            drawn(source, self._rng(seed, row, index, attempt), choice, scale)
            for index, (spec, source) in enumerate(zip(self.specs, self.sources, strict=True))
            if spec.batch_axis is not None
        )

    def _shared(self, index: int) -> Array:
        spec = self.specs[index]
        if spec.sample is not None:
            return spec.sample
        return drawn(self.sources[index], self._rng(_SHARED, 0, index, 0), None, 1.0)

    def _rng(self, *words: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([word & _MASK for word in (self.seed, *words)]))

    def _choices(self, count: int, seed: int) -> list[Choice] | None:
        """Return which rows the samples are made of, the file's own order for seed 0; None without real samples.

        Neighbouring seeds have different rows at every place: companions must differ from those they replace.
        """
        total = next((len(source.rows) for source in self.sources if _is_real(source) and source.rows is not None), 0)
        if not total:
            return None
        rng = self._rng(seed, _SHARED)
        lap, shift = divmod(seed, total)
        order = np.roll(np.arange(total) if lap == 0 else self._rng(lap, _SHARED, 1).permutation(total), -shift)
        exact = order if total > 1 or seed == 0 else order[:0]
        choices = [Choice(first=int(row), second=int(row), share=1.0) for row in exact[:count]]
        while len(choices) < count:
            first, second = (int(row) for row in rng.integers(0, total, 2))
            choices.append(Choice(first=first, second=second, share=float(rng.uniform(0.5, 0.95))))
        return choices

    def rows(self, batch: Batch, indices: Sequence[int]) -> Batch:
        """Return a batch of these rows of another."""
        return self._each(batch, lambda values, axis, _name: np.take(values, list(indices), axis=axis))

    def with_row(self, batch: Batch, index: int, other: Batch) -> Batch:
        """Return `batch` with row `index` of `other` in its place."""

        def replaced(values: Array, axis: int, name: str) -> Array:
            result = values.copy()
            place = (slice(None),) * axis + (index,)
            result[place] = other[name][place]
            return result

        return self._each(batch, replaced)

    def _each(self, batch: Batch, change: Callable[[Array, int, str], Array]) -> Batch:
        axes = {spec.name: spec.batch_axis for spec in self.specs}
        return {
            name: values if (axis := axes.get(name)) is None else change(values, axis, name)
            for name, values in batch.items()
        }

    def jittered(self, batch: Batch, seed: int) -> Batch:
        """Return the batch with every floating-point element changed by one unit in the last place, either way."""
        return {
            name: nudged(values, self._rng(seed, index, _SHARED)) if is_inexact(dtype_name(values.dtype)) else values
            for index, (name, values) in enumerate(batch.items())
        }

    def padded(self, batch: Batch) -> Batch | None:
        """Return the batch padded with zeros to a larger size along its free axes; None where no axis is free."""
        if not self.free_axes:
            return None
        grown = dict(batch)
        for name, axes in self.free_axes:
            values = grown[name]
            widths = [(0, _growth(size) if axis in axes else 0) for axis, size in enumerate(values.shape)]
            grown[name] = np.pad(values, widths)
        return grown


def _is_real(source: ValueSource) -> bool:
    return source.kind is Kind.ROWS


def _growth(size: int) -> int:
    """Return how far an axis is padded: by half, in steps that networks which halve their input five times take."""
    return 32 * max(1, size // 64) if size >= 32 else max(1, size // 2)
