"""What the inputs of a module look like, deduced from the first layers that see them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bn_audit.runners._torch.arrays import dtype_name, dtype_named
from bn_audit.runners._torch.calling import Parameters
from bn_audit.runners._torch.contact import Contact, attempted, first_contacts
from bn_audit.runners._torch.copying import Original
from bn_audit.runners._torch.shapes import TOKENS, Wanted, wanted_by
from bn_audit.subject.run import InputSpec

if TYPE_CHECKING:
    import torch


TRIAL_BATCH = 7
"""Prime, and not how many classes or channels things have."""

MAX_CANDIDATES = 60
TRIED_FORMS = 12
"""Combinations of known inputs that are tried to reach the layer of an unknown one."""

MAX_FORMS = 12
START = ((3, 64, 64), (TOKENS,), (TOKENS, 32), (1, 28, 28))
"""Shapes with which inputs are sent in, to see which layer they reach, before anything is known about them."""

SPATIAL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """One form of one input; the shape without its batch axis."""

    shape: tuple[int, ...]
    dtype: str
    highest: int | None = None
    origin: str = ""
    batch_axis: int = 0

    def spec(self, name: str) -> InputSpec:
        """Return it as an input whose batch axis is free."""
        shape: list[int | None] = list(self.shape)
        shape.insert(self.batch_axis, None)
        return InputSpec(
            name=name,
            dtype=self.dtype,
            shape=tuple(shape),
            batch_axis=self.batch_axis,
            highest=self.highest,
            origin=self.origin,
        )

    def batch(self, device: torch.device) -> torch.Tensor:
        """Return a batch of this form."""
        import torch

        shape = list(self.shape)
        shape.insert(self.batch_axis, TRIAL_BATCH)
        dtype = dtype_named(self.dtype)
        generator = torch.Generator().manual_seed(TRIAL_BATCH)
        if dtype.is_floating_point or dtype.is_complex:
            values = torch.randn(shape, generator=generator)
        else:
            values = torch.randint(0, self.highest or 2, shape, generator=generator)
        return values.to(dtype).to(device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """A model to try inputs on.

    Attributes:
        dtype: Of its floating-point inputs.
    """

    original: Original
    parameters: Parameters
    dtype: torch.dtype
    device: torch.device

    def inputs(self, trial: Mapping[str, Guess]) -> dict[str, torch.Tensor]:
        """Return a batch for each input."""
        return {name: guess.batch(self.device) for name, guess in trial.items()}


def candidates(trials: Trials) -> Iterator[tuple[InputSpec, ...]]:
    """Yield what the inputs may look like: first what ran, the rest in the order of likelihood."""
    names = trials.parameters.inputs()
    guesses = _explore(trials, names)
    pool = list(itertools.islice(combined(names, guesses), MAX_CANDIDATES))
    for combination in _ranked(pool, trials, names):
        yield tuple(guess.spec(name) for name, guess in zip(names, combination, strict=True))


def _explore(trials: Trials, names: Sequence[str]) -> dict[str, list[Guess]]:
    """Return the forms of each input by the layers they reach; by the order of registration where that fails.

    Each run may come as far as the next input, if those before it have the right form.
    """
    known: dict[str, list[Guess]] = {}
    for start in START:
        unknown = Guess(shape=start, dtype=dtype_name(trials.dtype))
        found = True
        while found and len(known) < len(names):
            found = False
            for forms in itertools.islice(
                combined(names, {name: known.get(name, [unknown]) for name in names}), TRIED_FORMS
            ):
                new = _reached(trials, dict(zip(names, forms, strict=True)), known)
                if new:
                    known.update(new)
                    found = True
                    break
    fallback = list(by_registration(trials.original.module, trials.dtype))
    for name in names:
        known.setdefault(name, by_name(name, known, names, trials.dtype) or fallback)
    return known


def _reached(trials: Trials, trial: Mapping[str, Guess], known: Mapping[str, object]) -> dict[str, list[Guess]]:
    def wants(child: torch.nn.Module) -> bool:
        return wanted_by(child, "", trials.dtype) is not None

    found = {}
    inputs = trials.inputs(trial)
    for name, contact in first_contacts(trials.original, trials.parameters, inputs, wants).items():
        wanted = wanted_by(contact.module, contact.path, trials.dtype)
        if name not in known and wanted is not None:
            found[name] = list(_forms(wanted, contact, trial[name]))
    return found


def _forms(wanted: Wanted, contact: Contact, sent: Guess) -> Iterator[Guess]:
    """Yield what an input may look like whose first layer is known, and how it looked on arrival there."""
    plain = Guess(shape=(), dtype=wanted.dtype, highest=wanted.highest, origin=wanted.origin)
    is_untouched = contact.shape == (TRIAL_BATCH, *sent.shape)
    takes_time_first = getattr(contact.module, "batch_first", None) is False and is_untouched
    shapes = list(wanted.shapes)
    if not is_untouched:
        shapes += [*_with_fewer_channels(wanted.shapes, contact, sent), *rearranged(wanted.shapes)]
    for shape in shapes:
        if takes_time_first and len(shape) > 1:
            yield replace(plain, shape=shape, batch_axis=1, origin=f"{wanted.origin}, which takes time first")
        yield replace(plain, shape=shape)


def _with_fewer_channels(shapes: Sequence[tuple[int, ...]], contact: Contact, sent: Guess) -> Iterator[tuple[int, ...]]:
    """Yield images of as many channels as become the wanted ones, where the model multiplied what it was sent."""
    if len(sent.shape) == SPATIAL and len(contact.shape) == SPATIAL + 1 and contact.shape[1] > sent.shape[0]:
        for shape in shapes:
            channels, rest = divmod(shape[0] * sent.shape[0], contact.shape[1])
            if len(shape) == SPATIAL and not rest:
                yield (channels, *shape[1:])


def rearranged(shapes: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    """Yield what such a shape may have been before the model moved the channels or added an axis."""
    for shape in shapes:
        if len(shape) == SPATIAL:
            yield (*shape[1:], shape[0])
        if shape[:1] == (1,):
            yield shape[1:]
        if len(shape) == 1 and shape[0] > 1:
            side = round(shape[0] ** 0.5)
            if side * side == shape[0]:
                yield (1, side, side)
            colour = round((shape[0] / 3) ** 0.5)
            if 3 * colour * colour == shape[0]:
                yield (3, colour, colour)
        if len(shape) == 2:
            yield (shape[1], shape[0])


def by_registration(module: torch.nn.Module, dtype: torch.dtype) -> Iterator[Guess]:
    """Yield what the first layers of different kinds take, in the order in which the model registers them."""
    seen: set[tuple[tuple[int, ...], ...]] = set()
    found = []
    for path, child in module.named_modules():
        wanted = wanted_by(child, path, dtype)
        if wanted is not None and wanted.shapes not in seen:
            seen.add(wanted.shapes)
            found.append(wanted)
        if len(found) == 4:
            break
    for round_ in range(max((len(wanted.shapes) for wanted in found), default=0)):
        for wanted in found:
            if round_ < len(wanted.shapes):
                yield Guess(
                    shape=wanted.shapes[round_], dtype=wanted.dtype, highest=wanted.highest, origin=wanted.origin
                )
    if not found:
        for shape in ((16,), (3, 64, 64), (TOKENS, 16), (1, 28, 28), ()):
            yield Guess(shape=shape, dtype=dtype_name(dtype), origin="a guess: no layer says what it takes")


def by_name(name: str, known: Mapping[str, list[Guess]], names: Sequence[str], dtype: torch.dtype) -> list[Guess]:
    """Return the forms of an input that reaches no layer, by its name and by the other inputs."""
    others = [known[other][0] for other in names if other in known and other != name]
    if not others:
        return []
    first = others[0]
    word = name.lower()
    origin = f"a guess: no layer says what {name} is"
    shapes = list(dict.fromkeys((first.shape, first.shape[:1], (), (1,), first.shape[1:], first.shape[-1:])))
    if "mask" in word:
        sequence = [first.shape[:1], first.shape, first.shape[1:]]
        return [
            Guess(shape=shape, dtype=kind, highest=2, origin=origin)
            for kind in ("bool", "int64", dtype_name(dtype))
            for shape in dict.fromkeys(sequence)
        ]
    if any(part in word for part in ("len", "index", "idx", "ids", "step", "label", "target", "type")):
        highest = max(first.shape[:1] or (2,)) if "len" in word else 2
        return [Guess(shape=shape, dtype="int64", highest=highest, origin=origin) for shape in ((), *shapes)]
    return [Guess(shape=shape, dtype=dtype_name(dtype), origin=origin) for shape in shapes]


def combined(names: Sequence[str], guesses: Mapping[str, list[Guess]]) -> Iterator[tuple[Guess, ...]]:
    """Yield combinations of forms, likely ones first: those near the start of every list, or all at the same place."""
    lists = [guesses[name][:MAX_FORMS] for name in names]
    places = itertools.product(*(range(len(forms)) for forms in lists))
    for place in sorted(places, key=lambda place: (place[0] if len(set(place)) == 1 else sum(place), place)):
        yield tuple(forms[index] for forms, index in zip(lists, place, strict=True))


def _ranked(pool: list[tuple[Guess, ...]], trials: Trials, names: Sequence[str]) -> Iterator[tuple[Guess, ...]]:
    """Yield the combinations, those first that run, and of these those whose outputs have an axis of samples."""
    without_axis: list[int] = []
    failed: list[int] = []
    for index, combination in enumerate(pool):
        inputs = trials.inputs(dict(zip(names, combination, strict=True)))
        attempt = attempted(trials.original, trials.parameters, inputs)
        if attempt.error:
            failed.append(index)
        elif any(_follows(shape) for shape in attempt.output_shapes):
            yield combination
        else:
            without_axis.append(index)
    yield from (pool[index] for index in (*without_axis, *failed))


def _follows(shape: tuple[int, ...]) -> bool:
    return any(size == TRIAL_BATCH for size in shape) or bool(shape and shape[0] and shape[0] % TRIAL_BATCH == 0)
