"""The order in which the nodes of a graph can run, and whether every value they read is made by something."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bn_audit.errors import MalformedFileError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """What one node reads and makes.

    Attributes:
        reads: Values by name, with the name of the node that reads each: of the node itself, or inside its bodies.
    """

    reads: dict[str, str]
    makes: tuple[str, ...]


def free_values(steps: Sequence[Step], given: Iterable[str], results: Iterable[str]) -> dict[str, str]:
    """Return the values that a body takes from outside, with the name of a node that reads each."""
    made = {value for step in steps for value in step.makes} | set(given)
    free = {value: node for step in steps for value, node in step.reads.items() if value not in made}
    return free | {value: "the body's output" for value in results if value and value not in made}


def check_values(source: str, steps: Sequence[Step], given: Iterable[str], results: Iterable[str]) -> None:
    """Raise a MalformedFileError where a node of a whole graph reads a value that nothing makes."""
    for value, node in free_values(steps, given, results).items():
        raise MalformedFileError(
            f"{source}: node {node!r} reads {value!r}, which nothing makes: export the model again"
        )


def order(source: str, steps: Sequence[Step], given: Iterable[str]) -> list[int]:
    """Return the indices of the nodes in an order in which they can run; the file's own where it is one.

    Raises:
        MalformedFileError: nodes wait for each other, or two make the same value.
    """
    makers: dict[str, int] = {}
    already = set(given)
    for index, step in enumerate(steps):
        for value in step.makes:
            if value in makers or value in already:
                raise MalformedFileError(f"{source}: two nodes make the value {value!r}: export the model again")
            makers[value] = index
    waits = [{makers[value] for value in step.reads if value in makers} for step in steps]
    if all(index > before for index, needed in enumerate(waits) for before in needed):
        return list(range(len(steps)))
    followers: dict[int, list[int]] = {}
    for index, needed in enumerate(waits):
        for before in needed:
            followers.setdefault(before, []).append(index)
    left = [len(needed) for needed in waits]
    ready = [index for index in reversed(range(len(steps))) if not left[index]]
    found: list[int] = []
    while ready:
        index = ready.pop()
        found.append(index)
        for follower in followers.get(index, ()):
            left[follower] -= 1
            if not left[follower]:
                ready.append(follower)
    if len(found) < len(steps):
        waiting = next(index for index in range(len(steps)) if left[index])
        value = next(iter(steps[waiting].makes), "")
        raise MalformedFileError(f"{source}: the value {value!r} depends on itself: export the model again")
    return found
