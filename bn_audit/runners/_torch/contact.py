"""Which layer sees which input first: a run without values, stopped by nothing but the model's own errors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch.nn.parameter import is_lazy
from torch.utils.weak import WeakIdKeyDictionary

from bn_audit.runners._torch.calling import Parameters, said_errors
from bn_audit.runners._torch.outputs import tensors_in
from bn_audit.runners._torch.state import own_copies
from bn_audit.runners._torch.surroundings import seeded, undisturbed
from bn_audit.runners._torch.watching import Tensors, Watch, tensors_of

META = torch.device("meta")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """The first layer with sizes of its own that an input reaches.

    Attributes:
        shape: Of the tensor that reaches it; the input's own where nothing rearranged it.
    """

    module: torch.nn.Module
    path: str
    shape: tuple[int, ...]


@dataclass(slots=True)
class Attempt:
    """What one run without values showed.

    Attributes:
        contacts: By the name of the input.
        error: Why it failed; ``""`` where it ran to its end.
        output_shapes: Of a run that did.
    """

    contacts: dict[str, Contact] = field(default_factory=dict)
    error: str = ""
    output_shapes: tuple[tuple[int, ...], ...] = ()


def without_values(module: torch.nn.Module) -> torch.nn.Module | None:
    """Return a copy of the module on the meta device, made without copying values; None where that fails."""
    memo: dict[int, object] = {}
    for child in module.modules():
        for tensor in (*child._parameters.values(), *child._buffers.values()):
            if tensor is None or is_lazy(tensor) or id(tensor) in memo:
                continue
            empty = torch.empty_like(tensor, device=META)
            memo[id(tensor)] = torch.nn.Parameter(empty, False) if isinstance(tensor, torch.nn.Parameter) else empty
    copied: list[torch.nn.Module] = []

    def attempt() -> None:
        memo.update((id(value), replacement) for value, replacement in own_copies(module))
        copied.append(copy.deepcopy(module, memo).to(META))

    return None if said_errors(attempt) else copied[0]


def try_on_meta(
    module: torch.nn.Module,
    parameters: Parameters,
    inputs: Mapping[str, torch.Tensor],
    wants: Callable[[torch.nn.Module], bool],
) -> Attempt:
    """Run a model on the meta device and note which layer each input reaches first.

    Args:
        wants: Whether a layer says what its input looks like.
    """
    attempt = Attempt()
    sources = WeakIdKeyDictionary({tensor: frozenset({name}) for name, tensor in inputs.items()})

    def see(_func: object, given: Tensors, made: Tensors) -> None:
        origins = frozenset().union(*(sources.get(tensor, frozenset()) for tensor in given))
        if origins:
            for tensor in made:
                sources[tensor] = origins

    def reached(path: str) -> Callable[[torch.nn.Module, object, object], None]:
        def note(child: torch.nn.Module, args: object, kwargs: object) -> None:
            for tensor in tensors_of((args, *kwargs.values()) if isinstance(kwargs, dict) else args):
                for name in sources.get(tensor, frozenset()):
                    if name not in attempt.contacts:
                        attempt.contacts[name] = Contact(module=child, path=path, shape=tuple(tensor.shape))

        return note

    hooks = [
        child.register_forward_pre_hook(reached(path), with_kwargs=True)
        for path, child in module.named_modules()
        if wants(child)
    ]
    arguments, named = parameters.bind(inputs)

    def run() -> None:
        answer = module(*arguments, **named)
        attempt.output_shapes = tuple(_shapes(answer))

    try:
        with undisturbed(), seeded(0), Watch(see):
            attempt.error = said_errors(run)
    finally:
        for hook in hooks:
            hook.remove()
    return attempt


def _shapes(answer: object) -> Iterator[tuple[int, ...]]:
    yield from (tuple(value.shape) for _, value in tensors_in(answer) if isinstance(value, torch.Tensor))
