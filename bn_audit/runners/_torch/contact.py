"""Which layer sees which input first: a run that ends as soon as that is known, or with the model's own error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bn_audit.runners._torch.calling import Parameters, said_errors
from bn_audit.runners._torch.copying import Original
from bn_audit.runners._torch.outputs import tensors_in
from bn_audit.runners._torch.surroundings import seeded, undisturbed
from bn_audit.runners._torch.watching import Origins, Watch, tensors_of

if TYPE_CHECKING:
    import torch


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
    """How one run ended.

    Attributes:
        error: Why it failed; ``""`` where it ran to its end.
        output_shapes: Of a run that did.
    """

    error: str = ""
    output_shapes: tuple[tuple[int, ...], ...] = ()


class _AllSeen(BaseException):
    """Ends a run, past any ``except Exception`` of the model."""


def first_contacts(
    original: Original,
    parameters: Parameters,
    inputs: Mapping[str, torch.Tensor],
    wants: Callable[[torch.nn.Module], bool],
) -> dict[str, Contact]:
    """Run a model until each input has reached a layer, or until the model fails.

    Args:
        wants: Whether a layer says what its input looks like.
    """
    import torch

    contacts: dict[str, Contact] = {}
    origins = Origins(inputs)

    def reached(path: str) -> Callable[[torch.nn.Module, object, object], None]:
        def note(child: torch.nn.Module, args: object, kwargs: object) -> None:
            for tensor in tensors_of((args, *kwargs.values()) if isinstance(kwargs, dict) else args):
                for name in origins.of(tensor) - contacts.keys():
                    contacts[name] = Contact(module=child, path=path, shape=tuple(tensor.shape))
            if len(contacts) == len(inputs):
                raise _AllSeen

        return note

    arguments, named = parameters.bind(inputs)
    with undisturbed(), original.fresh() as fresh, seeded(0), Watch(origins.see):
        hooks = [
            child.register_forward_pre_hook(reached(path), with_kwargs=True)
            for path, child in fresh.module.named_modules()
            if wants(child) and not isinstance(child, torch.jit.ScriptModule)
        ]
        try:
            said_errors(lambda: fresh.module(*arguments, **named))
        except _AllSeen:
            pass
        finally:
            for hook in hooks:
                hook.remove()
    return contacts


def attempted(original: Original, parameters: Parameters, inputs: Mapping[str, torch.Tensor]) -> Attempt:
    """Return how a run on these inputs ends."""
    attempt = Attempt()
    arguments, named = parameters.bind(inputs)
    with undisturbed(), original.fresh() as fresh, seeded(0):

        def run() -> None:
            attempt.output_shapes = tuple(_shapes(fresh.module(*arguments, **named)))

        attempt.error = said_errors(run)
    return attempt


def _shapes(answer: object) -> Iterator[tuple[int, ...]]:
    import torch

    for _, value in tensors_in(answer):
        if isinstance(value, torch.Tensor) and not value.is_nested:
            yield tuple(value.shape)
