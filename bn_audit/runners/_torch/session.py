"""One opened model, as the measurements use it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bn_audit.errors import RunError, UnsupportedRunError
from bn_audit.runners._torch.arrays import dtype_name, to_tensor
from bn_audit.runners._torch.calling import Parameters, as_typed, models_errors, said_errors, wait_for
from bn_audit.runners._torch.colours import Visit, visitor
from bn_audit.runners._torch.copying import Original
from bn_audit.runners._torch.counting import counted
from bn_audit.runners._torch.exported import ProgramInputs
from bn_audit.runners._torch.layers import floating_type, set_mode
from bn_audit.runners._torch.localising import localise
from bn_audit.runners._torch.outputs import as_arrays
from bn_audit.runners._torch.precision import as_double, jittered
from bn_audit.runners._torch.sample_axes import Colours, fewer, sample_axes, size_of
from bn_audit.runners._torch.surroundings import seeded, undisturbed
from bn_audit.runners._torch.watching import Precision, Trace, Watch
from bn_audit.subject.run import Batch, Calls, InputSpec, Localisation, Outputs, Run

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model as a file or factory gives it, and what its kind of file tells about it.

    Attributes:
        runner: Name of the backend.
        module: On its device and in its element type.
        parameters: Of its forward pass.
        candidates: Gives what the inputs may look like.
        fixed_batch: The only batch size it takes; None where any will do.
        remarks: One sentence each.
        norm_paths: Norm layers whose mode can be set.
        state_names: Names of running statistics.
        can_set_mode: Its mode is not fixed in its code.
    """

    runner: str
    module: torch.nn.Module
    device: torch.device
    parameters: Parameters | ProgramInputs
    candidates: Callable[[Original], Iterator[tuple[InputSpec, ...]]]
    fixed_batch: int | None = None
    remarks: tuple[str, ...] = ()
    norm_paths: tuple[str, ...] = ()
    state_names: tuple[str, ...] = ()
    can_set_mode: bool = True


@dataclass(slots=True)
class TorchSession:
    """A model of torch, TorchScript or torch.export; see ``Session`` of `bn_audit.running`."""

    loaded: Loaded
    _original: Original = field(init=False)
    _double: Original | None = None
    _is_warm: bool = False

    def __post_init__(self) -> None:
        self._original = Original(self.loaded.module)

    @property
    def runner(self) -> str:
        """Name of the backend."""
        return self.loaded.runner

    @property
    def dtype(self) -> str:
        """Element type of the first floating-point parameter or buffer."""
        return dtype_name(floating_type(self.loaded.module))

    @property
    def threads(self) -> int | None:
        """Threads within an operator."""
        import torch

        return torch.get_num_threads()

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size that the program takes."""
        return self.loaded.fixed_batch

    @property
    def environment(self) -> Mapping[str, str]:
        """Versions of torch and of the GPU's libraries where one is used."""
        import torch

        found: dict[str, str] = {"torch": str(torch.__version__)}
        if self.loaded.device.type == "cuda":
            found["gpu"] = torch.cuda.get_device_name(self.loaded.device)
            found["cuda"] = str(torch.version.cuda)
        return found

    @property
    def remarks(self) -> Sequence[str]:
        """What was found out while loading and copying."""
        return (*self.loaded.remarks, *self._original.remarks)

    @property
    def norm_paths(self) -> Sequence[str]:
        """Norm layers whose mode can be set."""
        return self.loaded.norm_paths

    @property
    def state_names(self) -> Sequence[str]:
        """Names of running statistics."""
        return self.loaded.state_names

    def input_candidates(self) -> Iterator[tuple[InputSpec, ...]]:
        """Yield what the inputs may look like, the most likely first."""
        return self.loaded.candidates(self._original)

    def run(
        self,
        *batches: Batch,
        seed: int = 0,
        float64: bool = False,
        traced: bool = False,
        weight_jitter: int | None = None,
    ) -> Run:
        """Run the batches one after the other on one fresh copy; see ``Session.run``."""
        original = self._in_double() if float64 else self._original
        if weight_jitter is not None:
            with undisturbed():
                original = Original(jittered(original.private_copy(), weight_jitter))
        self._warm_up(original, batches)
        trace, precision = (Trace() if traced else None), (Precision() if float64 else None)
        outputs: list[Outputs] = []
        seconds: list[float] = []
        with undisturbed(), original.fresh() as fresh, seeded(seed):
            for batch in batches:
                arguments = self._arguments(batch, float64=float64)
                with contextlib.ExitStack() as watches:
                    for watcher in (trace, precision):
                        if watcher is not None:
                            watches.enter_context(Watch(watcher.see))
                    answer, took = self._call(fresh.module, arguments, float64=float64)
                outputs.append(as_arrays(answer, _listed(arguments)))
                seconds.append(took)
            changed = fresh.changed()
        return Run(
            outputs=tuple(outputs),
            seconds=tuple(seconds),
            changed=changed,
            trace=trace.digest if trace is not None else None,
            low_precision=precision is not None and precision.was_low,
        )

    def _arguments(self, batch: Batch, *, float64: bool = False) -> dict[str, object]:
        types = self.loaded.parameters.types
        given: dict[str, object] = {}
        for name, array in batch.items():
            tensor = to_tensor(array, self.loaded.device)
            given[name] = as_typed(as_double(tensor) if float64 else tensor, types.get(name, ""))
        return given

    def _call(
        self, module: Callable[..., object], arguments: Mapping[str, object], *, float64: bool = False
    ) -> tuple[object, float]:
        positional, named = self.loaded.parameters.bind(arguments)
        start = time.perf_counter()
        try:
            with models_errors():
                answer = module(*positional, **named)
                wait_for(self.loaded.device)
        except RunError as error:
            if float64:
                raise UnsupportedRunError(f"in double precision: {error}") from error
            raise
        return answer, time.perf_counter() - start

    def _warm_up(self, original: Original, batches: Sequence[Batch]) -> None:
        """Let a GPU choose its kernels and load its libraries before anything is measured."""
        if self._is_warm or self.loaded.device.type == "cpu" or not batches:
            return
        self._is_warm = True
        with undisturbed(), original.fresh() as fresh, seeded(0):
            said_errors(lambda: self._call(fresh.module, self._arguments(batches[0])))

    def _in_double(self) -> Original:
        """Return the model in double precision, converted once."""
        if self._double is None:
            module = self._original.private_copy()
            with undisturbed():
                reason = said_errors(lambda: as_double(module))
            if reason:
                raise UnsupportedRunError(f"the model cannot be converted to double precision: {reason}")
            self._double = Original(module)
        return self._double

    def in_mode(self, *, training: bool, paths: Sequence[str] | None = None) -> TorchSession | None:
        """Return the model with these norm layers (None: the whole model) in that mode."""
        module = self._original.shared_copy() if self.loaded.can_set_mode else None
        if module is None:
            return None
        with models_errors("setting the mode: "):
            if paths is None:
                module.train(training)
            named = dict(module.named_modules(remove_duplicate=False))
            for path in paths or ():
                set_mode(named[path], training=training)
        return TorchSession(replace(self.loaded, module=module))

    def localise(self, base: Batch, companions: Batch, probe: Batch, index: int, *, seed: int = 0) -> Localisation:
        """Return where samples meet; see ``Session.localise``."""
        self._double = None  # its memory may be needed
        batches = base, companions, probe
        axes = sample_axes(batches, index)
        smaller = fewer(batches, axes, index) if self.fixed_batch is None else None
        if smaller is not None:
            with contextlib.suppress(RunError):  # a size that the model does not take
                found = self._localised(smaller[0], smaller[1], seed)
                if found.first is not None:
                    return found
        return self._localised(batches, index, seed)

    def _localised(self, batches: Colours, index: int, seed: int) -> Localisation:
        first, second, third = (self._visiting(batch, seed) for batch in batches)
        size = size_of(batches, sample_axes(batches, index))
        return localise((first, second, third), self.loaded.module, index=index, batch=size)

    def _visiting(self, batch: Batch, seed: int) -> Callable[[Visit], None]:
        """Return what runs a batch on a fresh copy and shows every result."""

        def run(visit: Visit) -> None:
            with undisturbed(), self._original.fresh() as fresh, seeded(seed):
                where, watch = visitor(fresh.module, visit)
                arguments = self._arguments(batch)
                with where.watching() as model, watch:
                    self._call(model, arguments)

        return run

    def calls(self, batch: Batch, *, seed: int = 0) -> Calls | None:
        """Return the norm and dropout calls of one forward pass."""
        with undisturbed(), self._original.fresh() as fresh, seeded(seed):
            arguments = self._arguments(batch)

            def run(model: Callable[..., object], watch: Watch) -> None:
                with watch:
                    self._call(model, arguments)

            return counted(fresh.module, run)

    def sibling(self) -> TorchSession | None:
        """Return None: torch runs a module in one way."""
        return None


def _listed(arguments: Mapping[str, object]) -> int | None:
    """Return the number of samples where they are given as a list."""
    return next((len(value) for value in arguments.values() if isinstance(value, list)), None)
