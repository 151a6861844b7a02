"""Many layer paths on one readable line: ``layer{1,4}.{0-2}.bn{1-3}``.

A pattern stands for exactly the paths of its product: nothing is folded that was not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_NUMBER = re.compile(r"(?<![0-9])(0|[1-9][0-9]{0,8})(?![0-9])", re.ASCII)
"""A number written as Python would: ``01`` and absurdly long ones stay text, so that folding loses no zero."""

_RANGE = 3
"""So many consecutive numbers become a range: ``{0-2}``, but ``{0,1}``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Paths that differ in numbers only.

    Attributes:
        texts: What stands between the numbers; one more than `numbers`.
        numbers: The alternatives at each place, ascending.
    """

    texts: tuple[str, ...]
    numbers: tuple[tuple[int, ...], ...]

    @property
    def count(self) -> int:
        """Number of paths that the pattern stands for."""
        product = 1
        for choices in self.numbers:
            product *= len(choices)
        return product

    def __str__(self) -> str:
        parts = [self.texts[0]]
        for choices, text in zip(self.numbers, self.texts[1:], strict=True):
            parts += [_choices(choices), text]
        return "".join(parts)


def fold(paths: Iterable[str]) -> list[Pattern]:
    """Return patterns that together stand for exactly the distinct `paths`, in the order of their first path."""
    patterns = list(dict.fromkeys(_split(path) for path in paths))
    depth = max((len(pattern.numbers) for pattern in patterns), default=0)
    for place in reversed(range(depth)):
        patterns = _merged(patterns, place)
    return patterns


def fold_line(paths: Sequence[str], limit: int = 4) -> str:
    """Return at most `limit` patterns and how many more paths there are: ``bn1, layer1.{0-2}.bn{1-3} (+43 more)``."""
    patterns = fold(paths)
    shown = ", ".join(str(pattern) for pattern in patterns[:limit])
    hidden = sum(pattern.count for pattern in patterns[limit:])
    return f"{shown} (+{hidden} more)" if hidden else shown


def _split(path: str) -> Pattern:
    pieces = _NUMBER.split(path)
    return Pattern(texts=tuple(pieces[::2]), numbers=tuple((int(piece),) for piece in pieces[1::2]))


def _merged(patterns: list[Pattern], place: int) -> list[Pattern]:
    """Merge the patterns that are equal everywhere but at one place."""
    groups: dict[object, list[Pattern]] = {}
    for pattern in patterns:
        if len(pattern.numbers) <= place:
            groups.setdefault(pattern, []).append(pattern)
        else:
            others = pattern.numbers[:place], pattern.numbers[place + 1 :]
            groups.setdefault((pattern.texts, others), []).append(pattern)
    return [_union(group, place) if len(group) > 1 else group[0] for group in groups.values()]


def _union(group: list[Pattern], place: int) -> Pattern:
    first = group[0]
    choices = tuple(sorted({number for pattern in group for number in pattern.numbers[place]}))
    return Pattern(texts=first.texts, numbers=(*first.numbers[:place], choices, *first.numbers[place + 1 :]))


def _choices(numbers: tuple[int, ...]) -> str:
    if len(numbers) == 1:
        return str(numbers[0])
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = []
    for run in runs:
        parts += [f"{run[0]}-{run[-1]}"] if len(run) >= _RANGE else [str(number) for number in run]
    return "{" + ",".join(parts) + "}"
