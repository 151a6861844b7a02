"""An ONNX model in a backend, as the measurements see it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np

from bn_audit.errors import UnsupportedRunError
from bn_audit.runners._onnx import tracing
from bn_audit.runners._onnx.backend import Backend, Forward
from bn_audit.runners._onnx.batch_norms import BatchNorm, batch_norms, is_batch_norm, set_mode
from bn_audit.runners._onnx.calling import find_calls
from bn_audit.runners._onnx.dependence import varying_values
from bn_audit.runners._onnx.element_types import main_dtype
from bn_audit.runners._onnx.inputs import input_specs
from bn_audit.runners._onnx.jitter import jittered
from bn_audit.runners._onnx.loading import Model
from bn_audit.runners._onnx.localising import Probe, value_sizes
from bn_audit.runners._onnx.places import localised, node_places
from bn_audit.runners._onnx.randomness import STANDARD_DOMAINS, all_nodes, random_nodes, unseed
from bn_audit.runners._onnx.segments import Pieces
from bn_audit.runners._onnx.state import changed_tensors
from bn_audit.subject.run import Batch, Calls, InputSpec, Job, Localisation, Outputs, Run


class OnnxSession:
    """A model, loaded afresh for every run that could find it changed."""

    def __init__(
        self,
        model: Model,
        backend: Backend,
        job: Job,
        *,
        fixed_batch: int | None = None,
        remarks: Sequence[str] = (),
    ) -> None:
        self._model = model.edited()
        unseed(self._model.proto.graph)
        self._backend = backend
        self._job = job
        self._fixed_batch = fixed_batch
        self._remarks = tuple(remarks)
        self._loaded: dict[str, Forward] = {}

    @property
    def runner(self) -> str:
        """Name of the backend, as the report has it."""
        return self._backend.name

    @cached_property
    def dtype(self) -> str:
        """Element type of the model's floating-point weights or inputs, by PyTorch's name."""
        return main_dtype(self._model)

    @property
    def threads(self) -> int | None:
        """Threads that the backend uses."""
        return self._backend.threads

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size that the model takes, where it declares one that could not be freed."""
        return self._fixed_batch

    @property
    def environment(self) -> Mapping[str, str]:
        """Versions of what takes part, by name."""
        return self._backend.environment

    @property
    def remarks(self) -> Sequence[str]:
        """What a reader must know about how the model was made to run, one sentence each."""
        return self._remarks

    @property
    def norm_paths(self) -> Sequence[str]:
        """Paths of the batch norms that have statistics of their own, so that their mode can be set."""
        return tuple(dict.fromkeys(norm.path for norm in self._settable))

    @property
    def state_names(self) -> Sequence[str]:
        """Names of the stored statistics of batch norms."""
        return tuple(dict.fromkeys(name for norm in self._norms for name in norm.statistics))

    @cached_property
    def _varying(self) -> set[str]:
        return varying_values(self._model.proto)

    @cached_property
    def _norms(self) -> tuple[BatchNorm, ...]:
        return batch_norms(self._model.proto, self._model.opset, self._varying)

    @property
    def _settable(self) -> list[BatchNorm]:
        return [norm for norm in self._norms if norm.is_settled and norm.varies]

    @cached_property
    def _keeps_nothing(self) -> bool:
        """Whether a run leaves the loaded model as it was: no statistics written, no generator, no unknown operator."""
        graph = self._model.proto.graph
        known = all(node.domain in STANDARD_DOMAINS for node in all_nodes(graph))
        return known and not random_nodes(graph) and not any(norm.trains for norm in self._norms)

    def _start(self, seed: int, model: Model | None = None, key: str = "") -> Forward:
        """Return the model as it is before any run; the one that is loaded, where runs leave nothing in it."""
        used = self._model if model is None else model
        if not self._keeps_nothing:
            return self._backend.start(used, seed)
        if model is not None and not key:
            return self._backend.start(used, seed)
        if key not in self._loaded:
            self._loaded[key] = self._backend.start(used, seed)
        return self._loaded[key]

    def load(self) -> Forward:
        """Return the model loaded, so that what the backend refuses is known."""
        return self._start(0)

    def input_candidates(self) -> Iterator[tuple[InputSpec, ...]]:
        """Yield what the graph declares."""
        yield input_specs(self._model.proto, self._job.batch_axis)

    def run(
        self,
        *batches: Batch,
        seed: int = 0,
        float64: bool = False,
        traced: bool = False,
        weight_jitter: int | None = None,
    ) -> Run:
        """Run the batches one after the other on one fresh copy."""
        if float64:
            raise UnsupportedRunError(f"{self.runner} lacks most operators in float64: compare in the model's own type")
        forward = self._start(seed) if weight_jitter is None else self._jittered(seed, weight_jitter)
        outputs: list[Outputs] = []
        seconds = []
        for batch in batches:
            began = time.perf_counter()
            outputs.append(forward(batch))
            seconds.append(time.perf_counter() - began)
        return Run(
            outputs=tuple(outputs),
            seconds=tuple(seconds),
            changed=self._changed(batches[0], seed) if batches else (),
            trace=self._trace(batches, seed) if traced else None,
        )

    def _jittered(self, seed: int, jitter: int) -> Forward:
        return self._backend.start(jittered(self._model, jitter), seed)

    def _changed(self, batch: Batch, seed: int) -> tuple[str, ...]:
        """Return the stored statistics that the backend overwrites; found once, for it does so at every run."""
        if not any(norm.overwrites and norm.statistics for norm in self._norms):
            return ()
        if self._overwritten is None:
            self._overwritten = changed_tensors(self._backend, self._model, self._norms, batch, seed)
        return self._overwritten

    _overwritten: tuple[str, ...] | None = None

    def _trace(self, batches: Sequence[Batch], seed: int) -> str:
        names = self._deciding
        if not names:
            return tracing.digest(batches, ())
        forward = self._start(seed, tracing.with_outputs(self._model, names), "trace")
        return tracing.digest(batches, [forward(batch) for batch in batches])

    @cached_property
    def _deciding(self) -> list[str]:
        return tracing.deciding_values(self._model.proto, self._varying)

    def with_fixed_batch(self, size: int, remark: str) -> OnnxSession:
        """Return the same model, known to run at one batch size only."""
        return OnnxSession(self._model, self._backend, self._job, fixed_batch=size, remarks=(*self._remarks, remark))

    def in_mode(self, *, training: bool, paths: Sequence[str] | None = None) -> OnnxSession | None:
        """Return the model with these batch norms (None: all) in that mode; None where none can be set."""
        chosen = [norm for norm in self._settable if paths is None or norm.path in paths]
        if not chosen:
            return None
        model = self._model.edited()
        set_mode(model.proto, model.opset, chosen, training=training)
        return OnnxSession(model, self._backend, self._job, fixed_batch=self._fixed_batch, remarks=self._remarks)

    def localise(self, base: Batch, companions: Batch, probe: Batch, index: int, *, seed: int = 0) -> Localisation:
        """Return the nodes where samples meet."""
        proto = self._model.proto
        pieces = Pieces(
            model=self._model,
            backend=self._backend,
            seed=seed,
            sizes=value_sizes(proto, base),
            shown={
                name
                for node in proto.graph.node
                for name in (node.output[:1] if is_batch_norm(node) else node.output)
                if name in self._varying
            },
            is_steady=self._keeps_nothing,
        )
        colours = pieces.compare((base, companions, probe), Probe(batch_size=self._batch_size(base), index=index))
        return localised(proto, node_places(proto, self._norms), colours)

    def _batch_size(self, batch: Batch) -> int:
        for spec in input_specs(self._model.proto, self._job.batch_axis):
            if spec.batch_axis is not None and spec.name in batch:
                return int(np.shape(batch[spec.name])[spec.batch_axis])
        return max((np.shape(array)[0] for array in batch.values() if np.ndim(array)), default=1)

    def calls(self, batch: Batch, *, seed: int = 0) -> Calls | None:
        """Return the batch norms of the graph, by whether they take the batch's statistics."""
        size = self._batch_size(batch)

        def give(names: Sequence[str]) -> Outputs:
            return self._backend.start(tracing.with_outputs(self._model, names, only=True), seed)(batch)

        return find_calls(self._model.proto, self._norms, self._varying, size, give)

    def sibling(self) -> OnnxSession | None:
        """Return the same model as the backend optimises it; None where it does not."""
        backend = self._backend.optimised()
        if backend is None:
            return None
        return OnnxSession(self._model, backend, self._job, fixed_batch=self._fixed_batch, remarks=self._remarks)
