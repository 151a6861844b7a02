"""Exported programs: their inputs exactly as the program states them, with the samples it carries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bn_audit.errors import RunError
from bn_audit.runners._torch.arrays import dtype_name, to_array
from bn_audit.subject.run import InputSpec

if TYPE_CHECKING:
    import torch


ORIGIN = "the exported program"
SAMPLE_ORIGIN = "its sample inputs"
MOST_SAMPLES = 1 << 24
"""Elements of a carried sample beyond which only its shape is passed on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramInputs:
    """How arrays become the arguments of an exported program.

    Attributes:
        leaves: Each input in the program's order: its name, and its value where the program fixed it.
        structure: The nesting of positional and keyword arguments.
        specs: The inputs that are free.
        fixed_batch: The only batch size; None where an axis is free.
    """

    leaves: tuple[tuple[str, object], ...]
    structure: Any
    specs: tuple[InputSpec, ...]
    fixed_batch: int | None
    types: Mapping[str, str] = field(default_factory=dict)

    def bind(self, values: Mapping[str, object]) -> tuple[tuple[object, ...], dict[str, object]]:
        """Return positional and keyword arguments that pass these values."""
        from torch.utils import _pytree

        given = dict(values)
        free = [spec.name for spec in self.specs]
        if len(given) == 1 and len(free) == 1:
            given = {free[0]: next(iter(given.values()))}
        missing = [name for name in free if name not in given]
        if missing:
            raise RunError(f"input {missing[0]!r} is not given: the program takes {', '.join(free)}")
        flat = [given.get(name, value) for name, value in self.leaves]
        arguments, named = _pytree.tree_unflatten(flat, self.structure)
        return tuple(arguments), dict(named)


def program_inputs(program: torch.export.ExportedProgram, batch_axis: int | None = None) -> ProgramInputs:
    """Return what a program takes; see `ProgramInputs`.

    Args:
        batch_axis: Axis of the samples; None: the one whose size is free, else the first.
    """
    import torch

    structure = program.call_spec.in_spec
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    arguments = [spec.arg for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
    names = _names(program, structure, [argument.name for argument in arguments])
    samples = _samples(program, len(arguments))
    leaves: list[tuple[str, object]] = []
    specs: list[InputSpec] = []
    for name, argument, sample in zip(names, arguments, samples, strict=True):
        value = nodes[argument.name].meta.get("val") if argument.name in nodes else None
        if isinstance(value, torch.Tensor):
            leaves.append((name, None))
            specs.append(_spec(name, value, sample))
        else:
            leaves.append((name, getattr(argument, "value", sample if sample is not None else value)))
    symbol, axis = _batch_of(specs, batch_axis)
    return ProgramInputs(
        leaves=tuple(leaves),
        structure=structure,
        specs=tuple(_with_axis(spec, symbol, axis) for spec in specs),
        fixed_batch=symbol if isinstance(symbol, int) else None,
    )


def program_candidates(inputs: ProgramInputs, program: torch.export.ExportedProgram) -> Iterator[tuple[InputSpec, ...]]:
    """Yield the inputs with their free sizes by name, then with the sizes of the export in their place."""
    yield inputs.specs
    hints = _hints(program)
    concrete = tuple(_concrete(spec, hints) for spec in inputs.specs)
    if concrete != inputs.specs:
        yield concrete


def _concrete(spec: InputSpec, hints: Mapping[str, int]) -> InputSpec:
    sizes = tuple(
        hints.get(size, size) if isinstance(size, str) and index != spec.batch_axis else size
        for index, size in enumerate(spec.shape)
    )
    return replace(spec, shape=sizes)


def _hints(program: torch.export.ExportedProgram) -> dict[str, int]:
    """Return the size that each symbol had when the program was exported."""
    import torch

    found: dict[str, int] = {}
    for node in program.graph.nodes:
        value = node.meta.get("val") if node.op == "placeholder" else None
        for size in value.shape if isinstance(value, torch.Tensor) else ():
            hint = getattr(getattr(size, "node", None), "hint", None)
            if isinstance(hint, int):
                found[str(size)] = hint
    return found


def _spec(name: str, value: torch.Tensor, sample: object) -> InputSpec:
    import torch

    has_sample = isinstance(sample, torch.Tensor) and sample.numel() <= MOST_SAMPLES and not sample.is_meta
    return InputSpec(
        name=name,
        dtype=dtype_name(value.dtype),
        shape=tuple(size if isinstance(size, int) else str(size) for size in value.shape),
        origin=SAMPLE_ORIGIN if has_sample else ORIGIN,
        sample=to_array(sample) if isinstance(sample, torch.Tensor) and has_sample else None,
    )


def _batch_of(specs: list[InputSpec], axis: int | None) -> tuple[int | str | None, int]:
    """Return the size of the batch (a symbol where it is free) and its axis in the input that tells it."""
    ranked = [spec for spec in specs if spec.shape]
    if axis is not None:
        return next(((spec.shape[axis], axis) for spec in ranked if len(spec.shape) > axis), (None, axis))
    for place in (0, 1):
        for spec in ranked:
            if len(spec.shape) > place and isinstance(spec.shape[place], str):
                return spec.shape[place], place
    return (ranked[0].shape[0], 0) if ranked else (None, 0)


def _with_axis(spec: InputSpec, symbol: int | str | None, axis: int) -> InputSpec:
    """Return the spec with the axis that has the batch's size; without one where none has."""
    if isinstance(symbol, str):
        found = spec.shape.index(symbol) if symbol in spec.shape else None
    else:
        found = axis if len(spec.shape) > axis and spec.shape[axis] == symbol else None
    return replace(spec, batch_axis=found)


def _names(program: torch.export.ExportedProgram, structure: Any, flat_names: list[str]) -> list[str]:
    """Return a name for each input: the parameter's, with the keys that lead into it."""
    from torch.utils import _pytree

    tree = _pytree.tree_unflatten(list(range(len(flat_names))), structure)
    paths, _ = _pytree.tree_flatten_with_path(tree)
    stated = _parameter_names(program)
    names = []
    for (path, _index), flat_name in zip(paths, flat_names, strict=True):
        keys = [_key(entry) for entry in path]
        group, rest = keys[0], keys[1:]
        if group == "1":
            names.append(".".join(rest))
        elif len(rest) == 1:
            names.append(flat_name)
        else:
            first = stated[int(rest[0])] if int(rest[0]) < len(stated) else flat_name.partition("_")[0]
            names.append(".".join((first, *rest[1:])))
    return names


def _parameter_names(program: torch.export.ExportedProgram) -> list[str]:
    for entry in program.module_call_graph:
        names = getattr(entry.signature, "forward_arg_names", None) if entry.fqn == "" else None
        if names:
            return list(names)
    return []


def _key(entry: object) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)


def _samples(program: torch.export.ExportedProgram, count: int) -> list[object]:
    from torch.utils import _pytree

    carried = program.example_inputs
    flat = _pytree.tree_leaves(carried, is_leaf=lambda value: value is None) if carried is not None else []
    return list(flat) if len(flat) == count else [None] * count
