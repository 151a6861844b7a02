"""TorchScript programs: their parameters by the schema, their inputs by the operators that see them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from bn_audit.errors import UnsupportedRunError
from bn_audit.runners._torch.arrays import dtype_name
from bn_audit.runners._torch.calling import Parameters
from bn_audit.runners._torch.deduction import MAX_CANDIDATES, Guess, by_name, by_registration, combined, rearranged
from bn_audit.runners._torch.layers import floating_type
from bn_audit.runners._torch.operator_contact import wanted_by_operators
from bn_audit.subject.run import InputSpec

if TYPE_CHECKING:
    import torch


START = ((3, 64, 64), (16,), (16, 32), (1, 28, 28), (3, 64), (3, 16, 32, 32))
"""Shapes with which inputs are sent in to see which operator they reach; TorchScript checks ranks on the way."""


def schema_parameters(module: torch.nn.Module) -> Parameters:
    """Return the parameters of a program's forward method.

    Raises:
        UnsupportedRunError: it has none of that name.
    """
    forward = getattr(module, "forward", None)
    schema = getattr(forward, "schema", None)
    if schema is None:
        raise UnsupportedRunError("the TorchScript program has no forward method: save the module that is called")
    arguments = schema.arguments[1:]  # the first is the program itself, under the name that its author gave it
    return Parameters(
        positional=tuple(argument.name for argument in arguments if not argument.kwarg_only),
        keywords=tuple(argument.name for argument in arguments if argument.kwarg_only),
        required=tuple(argument.name for argument in arguments if not argument.has_default_value()),
        types={argument.name: str(argument.type) for argument in arguments},
    )


def has_mode(module: torch.nn.Module) -> bool:
    """Return whether any part of a program keeps its mode; freezing writes it into the code."""
    import torch

    return any(child._c.hasattr("training") for child in module.modules() if isinstance(child, torch.jit.ScriptModule))


def scripted_candidates(
    module: torch.nn.Module, parameters: Parameters, device: torch.device
) -> Iterator[tuple[InputSpec, ...]]:
    """Yield what the inputs of a TorchScript program may look like."""
    dtype = floating_type(module)
    names = parameters.inputs()
    known: dict[str, list[Guess]] = {}
    for start in START:
        for _ in names:
            found = _reached(module, parameters, _trial(names, known, start, dtype), device, known)
            known.update(found)
            if not found:
                break
        if len(known) == len(names):
            break
    fallback = list(by_registration(module, dtype))
    for name in names:
        known.setdefault(name, by_name(name, known, names, dtype) or fallback)
    for combination in itertools.islice(combined(names, known), MAX_CANDIDATES):
        yield tuple(guess.spec(name) for name, guess in zip(names, combination, strict=True))


def _trial(
    names: tuple[str, ...], known: Mapping[str, list[Guess]], start: tuple[int, ...], dtype: torch.dtype
) -> dict[str, tuple[tuple[int, ...], str]]:
    return {
        name: (known[name][0].shape, known[name][0].dtype) if name in known else (start, dtype_name(dtype))
        for name in names
    }


def _reached(
    module: torch.nn.Module,
    parameters: Parameters,
    trial: Mapping[str, tuple[tuple[int, ...], str]],
    device: torch.device,
    known: Mapping[str, object],
) -> dict[str, list[Guess]]:
    found: dict[str, list[Guess]] = {}
    for name, wanted in wanted_by_operators(module, parameters, trial, device).items():
        if name not in known:
            shapes = dict.fromkeys((*wanted.shapes, *rearranged(wanted.shapes)))
            found[name] = [
                Guess(shape=shape, dtype=wanted.dtype, highest=wanted.highest, origin=wanted.origin) for shape in shapes
            ]
    return found
