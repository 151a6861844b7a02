"""Sizes for the axes that a model leaves open, the likeliest first."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bn_audit.sampling.dtypes import INTEGERS
from bn_audit.subject.run import InputSpec

SPATIAL = (64, 224, 32, 28, 128, 256, 299, 384, 512, 96, 48, 16, 8)
"""64 survives five halvings and costs a twelfth of 224; the others are what classifiers with a fixed size take."""

SEQUENCE = (16, 64, 128, 10, 256, 512, 77, 32, 8, 100, 1000)
FEATURES = (16, 8, 32, 64, 128, 256, 512, 768, 10, 4, 784, 1024, 3, 2, 1)
CHANNELS = (3, 1, 4, 2, 16, 32, 64, 128, 256, 512)

MAX_COMBINATIONS = 24
"""Per set of inputs; each costs a forward pass."""

_SPATIAL_NAME = re.compile(r"(^|_)(h|w|height|width|img|image|size|res|spatial)", re.IGNORECASE)
_SEQUENCE_NAME = re.compile(r"seq|len|tok|time|frame|step|word|pos|past", re.IGNORECASE)
_CHANNEL_NAME = re.compile(r"(^|_)(c|ch|chan|channels?)(_|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """Inputs without open sizes.

    Attributes:
        free_axes: Axes, by input, that were open and may grow together; none where nothing can be padded.
        chosen: What was decided, for the report: ``height = 64``.
    """

    specs: tuple[InputSpec, ...]
    free_axes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    chosen: tuple[str, ...] = ()


def decided(specs: Sequence[InputSpec]) -> Iterator[Decided]:
    """Yield the inputs with every open size decided, the likeliest combination first.

    A symbol has the same size everywhere; axes without a name count as one where their inputs have them at the same
    place. The batch axis stays open.
    """
    groups = _groups(specs)
    kinds = list(dict.fromkeys(sizes for sizes, _ in groups.values()))
    orders = sorted(itertools.product(*(range(len(sizes)) for sizes in kinds)), key=lambda order: (sum(order), order))
    for order in orders[:MAX_COMBINATIONS]:
        picked = {kind: kind[index] for kind, index in zip(kinds, order, strict=True)}
        values = {key: picked[sizes] for key, (sizes, _) in groups.items()}
        yield Decided(
            specs=tuple(_with_sizes(spec, values) for spec in specs),
            free_axes=_growing(specs, groups),
            chosen=tuple(f"{name} = {values[key]}" for key, (_, name) in groups.items()),
        )


def settled(declared: Sequence[InputSpec], known: Sequence[InputSpec]) -> tuple[InputSpec, ...]:
    """Return `known` with those of its open sizes that the sizes of another input settle.

    A symbol has one size. Axes without a name are taken for one where integers have them at the same place: token ids
    and their masks.

    Args:
        declared: The inputs as the model declares them.
        known: The same inputs, some of them with sizes from elsewhere.
    """
    sizes: dict[str, int] = {}
    for before, after in zip(declared, known, strict=True):
        if len(before.shape) == len(after.shape):
            for axis in _open_axes(before):
                size = after.shape[axis]
                if isinstance(size, int) and _is_shared(before, axis):
                    sizes.setdefault(_key(before, axis), size)
    return tuple(
        replace(
            spec,
            shape=tuple(
                sizes.get(_key(spec, axis), size) if axis in _open_axes(spec) and _is_shared(spec, axis) else size
                for axis, size in enumerate(spec.shape)
            ),
        )
        for spec in known
    )


def _is_shared(spec: InputSpec, axis: int) -> bool:
    return isinstance(spec.shape[axis], str) or spec.dtype in (*INTEGERS, "bool")


def _open_axes(spec: InputSpec) -> list[int]:
    return [axis for axis, size in enumerate(spec.shape) if axis != spec.batch_axis and not isinstance(size, int)]


def _key(spec: InputSpec, axis: int) -> str:
    size = spec.shape[axis]
    return size if isinstance(size, str) else f"axis {axis} of {len(spec.shape)}"


def _groups(specs: Sequence[InputSpec]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return for each group of axes its likely sizes and how a report calls it."""
    groups: dict[str, tuple[tuple[int, ...], str]] = {}
    for spec in specs:
        for axis in _open_axes(spec):
            key = _key(spec, axis)
            name = f"'{key}'" if isinstance(spec.shape[axis], str) else key
            groups.setdefault(key, (_likely(spec, axis), name))
    return groups


def _likely(spec: InputSpec, axis: int) -> tuple[int, ...]:
    name = spec.shape[axis] if isinstance(spec.shape[axis], str) else ""
    rank = len(spec.shape)
    own = axis - (1 if spec.batch_axis is not None and spec.batch_axis < axis else 0)
    if _SEQUENCE_NAME.search(str(name)):
        return SEQUENCE
    if _CHANNEL_NAME.search(str(name)):
        return CHANNELS
    if rank >= 4:
        return CHANNELS if own == 0 and not _SPATIAL_NAME.search(str(name)) else SPATIAL
    if _SPATIAL_NAME.search(str(name)):
        return SPATIAL
    if spec.dtype in (*INTEGERS, "bool"):
        return SEQUENCE
    is_sequence = own == 0 or any(isinstance(size, int) for size in spec.shape)
    return SEQUENCE if rank == 3 and is_sequence else FEATURES


def _with_sizes(spec: InputSpec, values: dict[str, int]) -> InputSpec:
    opened = _open_axes(spec)
    return replace(
        spec,
        shape=tuple(
            values[_key(spec, axis)] if axis in opened else None if axis == spec.batch_axis else size
            for axis, size in enumerate(spec.shape)
        ),
    )


def _growing(
    specs: Sequence[InputSpec], groups: dict[str, tuple[tuple[int, ...], str]]
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return the axes that padding extends: those of images or of sequences; features and channels have no padding."""
    keys = {key for key, (sizes, _) in groups.items() if sizes is SPATIAL or sizes is SEQUENCE}
    axes = {spec.name: tuple(axis for axis in _open_axes(spec) if _key(spec, axis) in keys) for spec in specs}
    return tuple((name, found) for name, found in axes.items() if found)
