"""Models in closed form behind the session's contract: what each experiment must find is known by construction."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bn_audit.errors import RunError, UnsupportedRunError
from bn_audit.subject.run import Batch, Calls, InputSpec, Job, Localisation, Run

FEATURES = 6


@dataclass
class State:
    """What one fresh copy remembers."""

    rng: np.random.Generator
    calls: int = 0
    training: bool = False


Forward = Callable[[np.ndarray, State], np.ndarray | dict[str, np.ndarray]]


def row_wise(x: np.ndarray, state: State) -> np.ndarray:
    """Rows that know nothing of each other."""
    return np.tanh(x * 2) + 0.5


def with_mean(weight: float) -> Forward:
    """Add a share of the batch's mean."""
    return lambda x, state: x + x.dtype.type(weight) * x.mean(axis=0, keepdims=True, dtype=x.dtype)


def with_predecessor(x: np.ndarray, state: State) -> np.ndarray:
    """Row 0 depends on no other."""
    return x + x.dtype.type(0.1) * (np.cumsum(x, axis=0) - x)


def with_maximum(x: np.ndarray, state: State) -> np.ndarray:
    """A row beyond a hundred times the usual scale changes all."""
    return x * (2 if np.abs(x).max() > 20 else 1)


def with_position(x: np.ndarray, state: State) -> np.ndarray:
    """The row's index is added."""
    return x + 0.1 * np.arange(len(x), dtype=x.dtype)[:, None]


def with_size(x: np.ndarray, state: State) -> np.ndarray:
    """The number of rows is a factor."""
    return x * x.dtype.type(1 + 0.05 * len(x))


def with_dropout(x: np.ndarray, state: State) -> np.ndarray:
    """Every row draws its own mask."""
    return x * (state.rng.random(x.shape) > 0.3)


def with_counter(x: np.ndarray, state: State) -> np.ndarray:
    """Every call is one percent larger."""
    return x * x.dtype.type(1 + 0.01 * state.calls)


def with_rounding(x: np.ndarray, state: State) -> np.ndarray:
    """Single precision only: other sizes and rows round otherwise, as other kernels do."""
    if x.dtype == np.float64:
        return row_wise(x, state)
    nudge = 1 + 3e-7 * (np.arange(len(x))[:, None] % 2) * (1 + len(x) % 3)
    return (row_wise(x, state).astype(np.float64) * nudge).astype(np.float32)


def with_rerouting(x: np.ndarray, state: State) -> np.ndarray:
    """Single precision only: the sign of a row's neighbour chooses how it rounds."""
    y = row_wise(x, state)
    return y if x.dtype == np.float64 else (y * (1 + 2e-7 * (np.roll(x, 1, axis=0)[:, :1] > 0))).astype(np.float32)


def squeezed(x: np.ndarray, state: State) -> np.ndarray:
    """One row loses its axis."""
    return np.squeeze(row_wise(x, state), axis=0) if len(x) == 1 else row_wise(x, state)


def refusing(*sizes: int) -> Forward:
    """Fail at these sizes."""

    def forward(x: np.ndarray, state: State) -> np.ndarray:
        if len(x) in sizes:
            raise RunError(f"no batch of {len(x)}")
        return row_wise(x, state)

    return forward


def constant(x: np.ndarray, state: State) -> np.ndarray:
    """The same answer for everybody."""
    return np.ones_like(x)


def with_training_norm(x: np.ndarray, state: State) -> np.ndarray:
    """Centred over the batch in training mode, left alone in evaluation."""
    return x - x.mean(axis=0, keepdims=True) * 0.5 if state.training else x * 1.25


@dataclass
class ClosedForm:
    """A session of a function; every run starts with a new state."""

    forward: Forward
    fixed_batch: int | None = None
    trace: Callable[[np.ndarray], str] | None = lambda x: str(x.shape)
    doubles: bool = True
    low_precision: bool = False
    changed: tuple[str, ...] = ()
    training: tuple[str, ...] = ()
    norm_paths: tuple[str, ...] = ()
    where: Localisation = field(default_factory=Localisation)
    counted: Calls | None = None
    other: ClosedForm | None = None
    passes: int = 0
    runner: str = "closed-form"
    dtype: str = "float32"
    threads: int | None = 1
    remarks: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: {"closed-form": "1"})

    @property
    def state_names(self) -> Sequence[str]:
        return tuple(f"{path}.running_mean" for path in self.norm_paths)

    def input_candidates(self) -> Iterator[tuple[InputSpec, ...]]:
        yield (InputSpec(name="x", dtype="float32", shape=(None, FEATURES), origin="the test"),)

    def run(
        self,
        *batches: Batch,
        seed: int = 0,
        float64: bool = False,
        traced: bool = False,
        weight_jitter: int | None = None,
    ) -> Run:
        if (float64 and not self.doubles) or weight_jitter is not None:
            raise UnsupportedRunError("not in this form")
        state = State(rng=np.random.default_rng(seed), training=bool(self.training))
        outputs, digests = [], []
        for batch in batches:
            x = batch["x"].astype(np.float64 if float64 else np.float32)
            self.passes += 1
            result = self.forward(x, state)
            state.calls += 1
            outputs.append(result if isinstance(result, dict) else {"y": result})
            digests.append(self.trace(x) if self.trace is not None else "")
        return Run(
            outputs=tuple(outputs),
            seconds=(0.001,) * len(batches),
            changed=self.changed,
            trace="|".join(digests) if traced and self.trace is not None else None,
            low_precision=float64 and self.low_precision,
        )

    def in_mode(self, *, training: bool, paths: Sequence[str] | None = None) -> ClosedForm | None:
        chosen = set(self.norm_paths if paths is None else paths)
        left = chosen | set(self.training) if training else set(self.training) - chosen
        return dataclasses.replace(self, training=tuple(left))

    def localise(self, base: Batch, companions: Batch, probe: Batch, index: int, *, seed: int = 0) -> Localisation:
        return self.where

    def calls(self, batch: Batch, *, seed: int = 0) -> Calls | None:
        return self.counted

    def sibling(self) -> ClosedForm | None:
        return self.other


@dataclass(frozen=True)
class PlainPlan:
    """One input of normal numbers, or of the token ids 0 to 9."""

    fixed_batch: int | None = None
    has_floats: bool = True
    pads: bool = False

    @property
    def specs(self) -> tuple[InputSpec, ...]:
        dtype = "float32" if self.has_floats else "int64"
        return (InputSpec(name="x", dtype=dtype, shape=(None, FEATURES), origin="the test"),)

    def draw(self, batch_size: int, seed: int, scale: float = 1.0) -> Batch:
        rng = np.random.default_rng(seed)
        if not self.has_floats:
            return {"x": rng.integers(0, 10, (batch_size, FEATURES))}
        return {"x": (rng.standard_normal((batch_size, FEATURES)) * scale).astype(np.float32)}

    def rows(self, batch: Batch, indices: Sequence[int]) -> Batch:
        return {"x": batch["x"][list(indices)]}

    def with_row(self, batch: Batch, index: int, other: Batch) -> Batch:
        x = batch["x"].copy()
        x[index] = other["x"][index]
        return {"x": x}

    def jittered(self, batch: Batch, seed: int) -> Batch:
        signs = np.random.default_rng(seed).choice([-np.inf, np.inf], batch["x"].shape).astype(np.float32)
        return {"x": np.nextafter(batch["x"], signs)}

    def padded(self, batch: Batch) -> Batch | None:
        return {"x": np.pad(batch["x"], ((0, 0), (0, 2)))} if self.pads else None


def job(**changes: object) -> Job:
    """Return a job for a closed form."""
    return dataclasses.replace(Job(source="closed.form", format="onnx"), **changes)


def with_capacity(x: np.ndarray, state: State) -> np.ndarray:
    """The five rows of the largest direction are kept, ties by place; scale does not matter."""
    rank = x[:, 0] / np.abs(x).max(axis=1)
    kept = np.argsort(-rank, kind="stable")[: max(1, len(x) * 5 // 8)]
    mask = np.zeros((len(x), 1), dtype=x.dtype)
    mask[kept] = 1
    return row_wise(x, state) * (0.5 + mask)
