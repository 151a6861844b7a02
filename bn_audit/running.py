"""The contracts of running a model: what a backend offers and what a measurement may ask of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from bn_audit.subject.run import Batch, Calls, InputSpec, Job, Localisation, Run

Say: TypeAlias = Callable[[str, int], None]
"""Called with (what is being done, number of forward passes so far)."""


class Session(Protocol):
    """A model loaded into this process; every `run` starts from the artifact's own state.

    Errors of the model itself leave as `RunError` with the backend's message in one line.
    """

    @property
    def runner(self) -> str:
        """Name of the backend, as the report has it."""
        ...

    @property
    def dtype(self) -> str:
        """Element type of the model's floating-point weights or inputs, by PyTorch's name."""
        ...

    @property
    def threads(self) -> int | None:
        """Threads that the backend uses."""
        ...

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size that the model takes, where it declares one that could not be freed."""
        ...

    @property
    def environment(self) -> Mapping[str, str]:
        """Versions of what takes part, by name."""
        ...

    @property
    def remarks(self) -> Sequence[str]:
        """What a reader must know about how the model was made to run, one sentence each."""
        ...

    @property
    def norm_paths(self) -> Sequence[str]:
        """Paths of the norm layers whose mode can be set by `in_mode`; empty where none can."""
        ...

    @property
    def state_names(self) -> Sequence[str]:
        """Names of running statistics among the stored tensors, for telling them from other state."""
        ...

    def input_candidates(self) -> Iterator[tuple[InputSpec, ...]]:
        """Yield what the inputs may look like, the most likely first."""
        ...

    def run(
        self,
        *batches: Batch,
        seed: int = 0,
        float64: bool = False,
        traced: bool = False,
        weight_jitter: int | None = None,
    ) -> Run:
        """Run the batches one after the other on one fresh copy.

        Args:
            seed: Of every random generator of the backend, set before the first batch.
            float64: Run in double precision.
            traced: Fill `Run.trace`; it may cost time, and must not change what is computed.
            weight_jitter: Seed of a change of every weight by one unit in the last place; None for no change.

        Raises:
            RunError: the model fails on this batch.
            UnsupportedRunError: the backend cannot run it in this way.
        """
        ...

    def in_mode(self, *, training: bool, paths: Sequence[str] | None = None) -> Session | None:
        """Return the model with these norm layers (None: the whole model) in that mode; None where it cannot be set."""
        ...

    def localise(self, base: Batch, companions: Batch, probe: Batch, index: int, *, seed: int = 0) -> Localisation:
        """Return where samples meet.

        Args:
            base: The batch.
            companions: The same with every other row than `index` changed.
            probe: The same with only row `index` changed.
        """
        ...

    def calls(self, batch: Batch, *, seed: int = 0) -> Calls | None:
        """Return the norm and dropout calls of one forward pass; None where the backend does not show them."""
        ...

    def sibling(self) -> Session | None:
        """Return the same model as the backend runs it otherwise (optimised); None where there is no such form."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """One backend.

    Attributes:
        name: As the report has it.
        summary: One line.
        formats: Names of the formats that it runs.
        runs_code: Loading such a file can run code in it, so that it needs ``--trust``.
        open: Gives the session; the model is gone at the end of the block. Raises RunError where it cannot be loaded.
        rank: Runners of the same format are tried in this order, the next one where `open` raises
            `UnsupportedRunError`.
        open_live: Gives the session of a live model (deep copied, left as it was); None where the backend runs files
            only.
    """

    name: str
    summary: str
    formats: tuple[str, ...]
    runs_code: bool
    open: Callable[[Job], AbstractContextManager[Session]]
    rank: int = 0
    open_live: Callable[[object, Job], AbstractContextManager[Session]] | None = None


class Plan(Protocol):
    """How batches are drawn; the same arguments give the same arrays."""

    @property
    def specs(self) -> tuple[InputSpec, ...]:
        """The inputs with every size of one sample decided; only the batch axis may be free."""
        ...

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size; None where any will do."""
        ...

    @property
    def has_floats(self) -> bool:
        """Whether any input is of a floating-point type, so that it can be scaled and jittered."""
        ...

    def draw(self, batch_size: int, seed: int, scale: float = 1.0) -> Batch:
        """Return distinct samples; floating-point inputs times `scale`."""
        ...

    def rows(self, batch: Batch, indices: Sequence[int]) -> Batch:
        """Return a batch of these rows of another."""
        ...

    def with_row(self, batch: Batch, index: int, other: Batch) -> Batch:
        """Return `batch` with row `index` of `other` in its place; arguments may be swapped to change companions."""
        ...

    def jittered(self, batch: Batch, seed: int) -> Batch:
        """Return the batch with every floating-point element changed by one unit in the last place, either way."""
        ...

    def padded(self, batch: Batch) -> Batch | None:
        """Return the batch padded with zeros to a larger size along a free axis; None where no axis is free."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a measurement works with.

    Attributes:
        batch_size: Samples in the reference batch.
        say: Announces a step and the number of forward passes that it takes, before they run. Raises `RunError` where
            the time is up, or where this very step ended an earlier process.
    """

    session: Session
    plan: Plan
    job: Job
    batch_size: int
    say: Say


Figures: TypeAlias = Mapping[str, object]
"""What a measurement gives: numbers, arrays and places by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One measurement: numbers, no verdict.

    Attributes:
        name: As it stands among the results of the others.
        summary: One line.
        order: Experiments run in this order.
        tiers: The tiers it belongs to.
        measure: Gives the figures. The second argument holds those of the experiments before it, by their names.
        concerns: Returns from the earlier figures whether it is worth running.
    """

    name: str
    summary: str
    order: int
    measure: Callable[[Bench, Mapping[str, Figures]], Figures]
    tiers: tuple[str, ...] = ("quick", "full")
    concerns: Callable[[Mapping[str, Figures]], bool] = field(default=lambda _figures: True)
