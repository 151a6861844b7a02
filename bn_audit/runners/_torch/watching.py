"""Dispatch modes that see every operator of a run and change nothing."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from bn_audit.runners._torch.arrays import dtype_name

if TYPE_CHECKING:
    from types import TracebackType

    import torch


_LOW = frozenset({"float32", "float16", "bfloat16", "complex64", "complex32"})

Tensors: TypeAlias = "Sequence[torch.Tensor]"


def tensors_of(value: object) -> Iterator[torch.Tensor]:
    """Yield the tensors among an operator's arguments or results."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for member in value:
            yield from tensors_of(member)


class Watch:
    """Calls `see` with (operator, its input tensors, its output tensors) for every operator inside its block.

    Args:
        before: Called with (operator, its arguments) before it runs, so also where it fails.
    """

    def __init__(
        self,
        see: Callable[[Any, Tensors, Tensors], None],
        before: Callable[[Any, Sequence[object]], None] | None = None,
    ) -> None:
        self._see = see
        self._before = before
        self._is_paused = False
        self._mode = _dispatch_mode()(self._run)

    def __enter__(self) -> Watch:
        self._mode.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mode.__exit__(kind, error, trace)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """See nothing inside the block: what looks at results runs operators too."""
        before, self._is_paused = self._is_paused, True
        try:
            yield
        finally:
            self._is_paused = before

    def _run(self, func: Any, args: tuple[object, ...], named: Mapping[str, object]) -> object:
        if self._is_paused:
            return func(*args, **named)
        if self._before is not None:
            self._before(func, args)
        result = func(*args, **named)
        inputs = [*tensors_of(args), *tensors_of(tuple(named.values()))]
        self._see(func, inputs, list(tensors_of(result)))
        return result


@cache
def _dispatch_mode() -> Any:
    """Return the class of modes that hand every operator to a function, which runs it."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Mode(TorchDispatchMode):
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            # Hiding this class from torch.compile imports all of it at the first operator, which takes seconds; a
            # model that was compiled has imported it already.
            return "torch._dynamo" in sys.modules

        def __init__(self, run: Callable[[Any, tuple[object, ...], Mapping[str, object]], object]) -> None:
            super().__init__()
            self._run = run

        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[object, ...] = (), kwargs: Mapping[str, object] | None = None
        ) -> object:
            return self._run(func, args, kwargs or {})

    return Mode


class Origins:
    """Which inputs each tensor was computed from."""

    def __init__(self, inputs: Mapping[str, torch.Tensor]) -> None:
        from torch.utils.weak import WeakIdKeyDictionary

        self._names = WeakIdKeyDictionary({tensor: frozenset({name}) for name, tensor in inputs.items()})

    def of(self, tensor: torch.Tensor) -> frozenset[str]:
        """Return the names of the inputs that a tensor depends on."""
        names: frozenset[str] = self._names.get(tensor, frozenset())
        return names

    def see(self, _func: object, inputs: Tensors, outputs: Tensors) -> None:
        """Take in one operator."""
        names = frozenset().union(*map(self.of, inputs))
        for tensor in outputs if names else ():
            self._names[tensor] = names


class Trace:
    """A digest of operators and of the shapes and element types that they gave."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._is_nested = False

    def see(self, func: Any, _inputs: Tensors, outputs: Tensors) -> None:
        """Take in one operator."""
        self._is_nested |= any(tensor.is_nested for tensor in outputs)
        shapes = [("nested",) if tensor.is_nested else (*tensor.shape, tensor.dtype) for tensor in outputs]
        self._hash.update(f"{func}{shapes}\n".encode())

    @property
    def digest(self) -> str | None:
        """None where nested tensors hide their shapes."""
        return None if self._is_nested else self._hash.hexdigest()


class Precision:
    """Notices operators of a float64 run that work in less.

    What is computed from nothing but constants made on the way (a table of positions) is the same for every batch and
    does not count.
    """

    def __init__(self) -> None:
        from torch.utils.weak import WeakIdKeyDictionary

        self.was_low = False
        self._constants = WeakIdKeyDictionary()

    def see(self, func: Any, inputs: Tensors, outputs: Tensors) -> None:
        """Take in one operator."""
        if all(tensor in self._constants for tensor in inputs) and "bernoulli" not in str(func):
            for tensor in outputs:
                self._constants[tensor] = True
            return
        if self.was_low or "empty" in str(func):
            return
        self.was_low = any(dtype_name(tensor.dtype) in _LOW for tensor in outputs)
