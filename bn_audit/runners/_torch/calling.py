"""Calls a model with named arrays: how its inputs are passed, and what its errors become."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bn_audit.errors import BnAuditError, RunError

if TYPE_CHECKING:
    import torch


_LIST_OF_TENSORS = re.compile(r"(?:typing\.)?(?:List|list|Sequence)\[(?:torch\.)?Tensor\]")
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "not enough memory", "std::bad_alloc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The parameters of a model's forward pass.

    Attributes:
        positional: Names of those that may be passed by place, in order.
        keywords: Names of those that can only be passed by name.
        takes_more: Name of the parameter that takes any number of positional arguments, ``""`` for none.
        required: Names of those without a default.
        types: What a TorchScript schema or an annotation says they are, as text.
    """

    positional: tuple[str, ...]
    keywords: tuple[str, ...] = ()
    takes_more: str = ""
    required: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)

    def inputs(self) -> tuple[str, ...]:
        """Return the names to feed: those without a default, else the first."""
        if self.required:
            return self.required
        if self.positional:
            return self.positional[:1]
        return (f"{self.takes_more}.0",) if self.takes_more else self.keywords[:1] or ("input",)

    def bind(self, values: Mapping[str, object]) -> tuple[tuple[object, ...], dict[str, object]]:
        """Return positional and keyword arguments that pass these values.

        ``batch.image`` is a member of the dict ``batch``, ``pair.0`` of the list ``pair``. A single value of unknown
        name is the first argument.
        """
        nested = _nested(values)
        if len(nested) == 1 and self.positional and not set(nested) & {*self.positional, *self.keywords}:
            name, value = next(iter(nested.items()))
            if name != self.takes_more:
                nested = {self.positional[0]: value}
        arguments: list[object] = []
        for name in self.positional:
            if name not in nested:
                break
            arguments.append(nested.pop(name))
        if self.takes_more in nested:
            more = nested.pop(self.takes_more)
            arguments.extend(more if isinstance(more, list) else [more])
        return tuple(arguments), nested


def _nested(values: Mapping[str, object]) -> dict[str, object]:
    """Return the values with dotted names gathered into dicts, and lists where every name is a number."""
    groups: dict[str, dict[str, object]] = {}
    for name, value in values.items():
        head, dot, rest = name.partition(".")
        groups.setdefault(head, {})[rest if dot else ""] = value
    gathered: dict[str, object] = {}
    for head, members in groups.items():
        if "" in members:
            gathered[head] = members[""]
            continue
        inner = _nested(members)
        gathered[head] = list(inner.values()) if all(name.isdigit() for name in inner) else inner
    return gathered


def as_typed(tensor: torch.Tensor, type_name: str) -> object:
    """Return a tensor as a parameter of this type takes it: a number, a list of samples, or itself."""
    if type_name in ("int", "float", "bool") and tensor.numel() == 1:
        return tensor.item()
    if _LIST_OF_TENSORS.fullmatch(type_name) and tensor.ndim:
        return list(tensor.unbind(0))
    return tensor


def parameters_of(forward: object, *, skip: Sequence[str] = ("self",)) -> Parameters:
    """Return the parameters of a Python function."""
    try:
        found = inspect.signature(forward).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return Parameters(positional=("input",), required=("input",))
    kept = [parameter for parameter in found if parameter.name not in skip]
    by_place = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return Parameters(
        positional=tuple(parameter.name for parameter in kept if parameter.kind in by_place),
        keywords=tuple(parameter.name for parameter in kept if parameter.kind is inspect.Parameter.KEYWORD_ONLY),
        takes_more=next(
            (parameter.name for parameter in kept if parameter.kind is inspect.Parameter.VAR_POSITIONAL), ""
        ),
        types={parameter.name: _type_name(parameter.annotation) for parameter in kept},
        required=tuple(
            parameter.name
            for parameter in kept
            if parameter.default is inspect.Parameter.empty
            and parameter.kind in {*by_place, inspect.Parameter.KEYWORD_ONLY}
        ),
    )


def _type_name(annotation: object) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    return annotation.__name__ if isinstance(annotation, type) and annotation in (int, float, bool) else str(annotation)


@contextlib.contextmanager
def models_errors(doing: str = "") -> Iterator[None]:
    """Turn whatever the model's own code raises inside the block into a RunError of one line."""
    try:
        yield
    except (BnAuditError, KeyboardInterrupt):
        raise
    except (Exception, SystemExit) as error:  # the model's code may raise anything
        raise RunError(f"{doing}{one_line(error)}") from error


def said_errors(attempt: Callable[[], object]) -> str:
    """Return in one line why the model's own code fails at this; ``""`` where it does not."""
    try:
        attempt()
    except (Exception, SystemExit) as error:  # the model's code may raise anything
        return one_line(error)
    return ""


def one_line(error: BaseException) -> str:
    """Return ``Type: first line`` of an exception; running out of memory is named as such."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = _telling(lines)
    if isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in OUT_OF_MEMORY):
        return f"out of memory ({type(error).__name__}: {text})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _telling(lines: Sequence[str]) -> str:
    """Return the line that says what happened: TorchScript puts its own trace before it."""
    if lines and lines[0].startswith("The following operation failed in the TorchScript interpreter"):
        return lines[-1].removeprefix("RuntimeError: ")
    return lines[0] if lines else ""


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what it was given, so that times and errors belong to their call."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
