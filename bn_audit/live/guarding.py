"""A block in which no norm layer of a model may normalise with the batch, nor move its running statistics."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from bn_audit.errors import BatchStatisticsError, BatchStatisticsWarning, UsageError
from bn_audit.live import calls, snapshots
from bn_audit.live.calls import NormCall
from bn_audit.live.layers import Layers, layers_of
from bn_audit.live.ownership import Owner, owner_of, type_name
from bn_audit.live.regions import compiled, dispatched
from bn_audit.live.snapshots import Snapshot
from bn_audit.styled import clean

if TYPE_CHECKING:
    from torch import nn

_SHOWN = 5
"""Layers that a message names; the exception holds all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """What one layer did inside a guarded block.

    Attributes:
        path: Module path; ``""`` for the model itself, None for a call outside of any module.
        type_name: Class of the module; ``""`` where there is none.
        what: What it did, with the place in the code where it was a functional call.
        remedy: What to do about it.
    """

    path: str | None
    type_name: str
    what: str
    remedy: str

    @property
    def layer(self) -> str:
        """The layer as messages name it."""
        if self.path is None:
            return "outside of any module"
        return f"{self.path or '(root)'} ({self.type_name})"

    def __str__(self) -> str:
        return f"{clean(self.layer)} {clean(self.what)}"


OnViolation = Literal["raise", "warn"] | Callable[[Violation], object]

_USE_EVAL = "call model.eval() first"
_FREEZE = f"{_USE_EVAL}; bn_audit.freeze_bn(model) keeps batch norms there through model.train()"
_KEEP_STATISTICS = "eval() does not change that: build it with track_running_stats=True and train or calibrate it"
_MAKE_AGAIN = "call model.eval() before it is scripted, traced or exported; what is scripted also before it is called"
_GIVE_FLAG = "pass training=self.training with running statistics, or leave the call out of the guarded block"
_FIND_UPDATE = "keep the update of the statistics out of the evaluation path of its forward()"


class guard:  # noqa: N801 - used like a function: with bn_audit.guard(model): ...
    """Give a block in which batch statistics and moving running statistics of a model are violations.

        with torch.inference_mode(), bn_audit.guard(model):
            model(sample)

    A batch norm of any kind that is about to normalise activations with the statistics of the batch is stopped before
    it does, with the path of the layer; functional calls are named by the module that makes them. At the end of the
    block, statistics whose values moved are found as well, for hand-written layers and for what runs below Python.
    InstanceNorm without statistics, weight standardisation and layers in evaluation are silent. Nothing is hooked, so
    fast paths stay; all is put back at the end, also after an exception. Blocks can be nested, and other threads may
    run other models.

    Args:
        model: Any ``torch.nn.Module``, also wrapped, compiled, scripted or exported.
        on_violation: ``"raise"``, ``"warn"`` (once for each layer), or a function that takes a `Violation`.

    Not seen: batch statistics without stored ones in hand-written arithmetic; in what ``torch.compile`` made of a
    function instead of a module; and in calls that reach ATen past ``torch`` (``torch.ops.aten``), unless they move
    statistics. For compiled modules the flags of their layers decide. At batch size 1 an InstanceNorm that is
    written with ``F.batch_norm`` is told by its class name alone. What TorchScript, an exported program or another
    thread does with this model is reported at the end of the block.

    Raises:
        BatchStatisticsError: inside the block or at its end, with ``on_violation="raise"``.
        UsageError: `model` is no module, or `on_violation` is something else.
    """

    def __init__(self, model: nn.Module, on_violation: OnViolation = "raise") -> None:
        from torch import nn

        if not isinstance(model, nn.Module):
            raise UsageError(
                f"guard: {type(model).__module__}.{type(model).__qualname__} is no torch.nn.Module: give the model "
                "that the block runs"
            )
        if on_violation not in ("raise", "warn") and not callable(on_violation):
            raise UsageError(f"guard: on_violation is {on_violation!r}: one of 'raise', 'warn', or a function")
        self._model = model
        self._on_violation = on_violation
        self._stack = ExitStack()
        self._layers: Layers | None = None
        self._before = Snapshot(groups=(), absent=())
        self._thread = 0
        self._known: set[str | None] = set()
        self._pending: list[Violation] = []

    def __enter__(self) -> None:
        if self._layers is not None:
            raise UsageError("guard: this block is open already: make a new guard for a block inside it")
        layers = layers_of(self._model)
        self._before = snapshots.take(layers.keepers)
        self._thread = threading.get_ident()
        self._known, self._pending = set(), []
        with ExitStack() as stack:
            stack.callback(setattr, self, "_layers", None)
            self._layers = layers
            watcher = self._watch
            calls.watch(watcher)
            stack.callback(calls.unwatch, watcher)
            stack.enter_context(compiled(layers, self._watch_compiled))
            stack.enter_context(dispatched(layers, watcher))
            self._stack = stack.pop_all()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        found = [*self._pending, *self._moved()]
        if error is None:
            self._report(found)
        elif self._on_violation == "raise":
            for violation in found:
                error.add_note(f"bn_audit.guard: {violation}")
        else:
            self._report(found)

    def _watch(self, call: NormCall) -> None:
        layers = self._layers
        owner = owner_of(call, layers) if layers is not None else None
        if owner is not None and (owner.path is not None or threading.get_ident() == self._thread):
            self._found(_violation(call, owner), can_raise=call.in_python)

    def _watch_compiled(self, module: nn.Module, path: str) -> None:
        stored = module.running_mean is not None
        what = f"is compiled, and {'in training mode' if stored else 'keeps no running statistics'}"
        remedy = _FREEZE if stored else _KEEP_STATISTICS
        self._found(Violation(path=path, type_name=type(module).__name__, what=what, remedy=remedy))

    def _found(self, violation: Violation, *, can_raise: bool = True) -> None:
        """Report a violation while the block runs; each layer once.

        Args:
            can_raise: False below TorchScript, whose interpreter makes a RuntimeError of every exception.
        """
        is_known = violation.path in self._known
        self._known.add(violation.path)
        if not can_raise or threading.get_ident() != self._thread:
            self._pending += [] if is_known else [violation]
        elif not is_known or self._on_violation == "raise":
            self._report([violation])

    def _moved(self) -> list[Violation]:
        names: dict[str, list[str]] = {}
        types: dict[str, str] = {}
        for keeper, name in snapshots.moved(self._before):
            names.setdefault(keeper.path, []).append(name)
            types[keeper.path] = type_name(keeper.module)
        return [
            Violation(path=path, type_name=types[path], what=f"moved {', '.join(moved)}", remedy=_FIND_UPDATE)
            for path, moved in names.items()
            if path not in self._known
        ]

    def _report(self, violations: list[Violation]) -> None:
        if not violations:
            return
        if callable(self._on_violation):
            for violation in violations:
                self._on_violation(violation)
        elif self._on_violation == "warn":
            for violation in violations:
                warnings.warn(f"{violation}: {violation.remedy}", BatchStatisticsWarning, stacklevel=3)
        else:
            shown = "; ".join(str(violation) for violation in violations[:_SHOWN])
            more = f"; and {len(violations) - _SHOWN} more" if len(violations) > _SHOWN else ""
            raise BatchStatisticsError(
                f"{shown}{more}: {violations[0].remedy}",
                layers=tuple(violation.path for violation in violations if violation.path is not None),
            )


def _violation(call: NormCall, owner: Owner) -> Violation:
    place = f", at {owner.place}" if owner.place else ""
    inside = "" if owner.registered else f" in a {owner.type_name} that is not registered in the model"
    does = "moves its running statistics" if call.updates else "normalises with the statistics of the batch"
    if not call.in_python:
        remedy = _MAKE_AGAIN
    elif owner.place:
        remedy = _GIVE_FLAG
    elif call.updates:
        remedy = _USE_EVAL
    else:
        remedy = _FREEZE if call.has_statistics else _KEEP_STATISTICS
    return Violation(
        path=owner.path,
        type_name=owner.type_name,
        what=f"{does} ({call.function}){inside}{place}",
        remedy=remedy,
    )
