"""The further paths of a module that is registered more than once, itself or below a shared parent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

MAX_ALIASES = 64
"""Cap on the paths of one layer: shared parents within shared parents multiply them."""


def aliases_of(path: str, repeats: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return every other path of the layer at `path`, at most `MAX_ALIASES`.

    Args:
        repeats: For each module that is registered again, the path at which it was seen first to the other ones.
    """
    found = {path: None}
    pending = [path]
    while pending:
        current = pending.pop()
        for prefix in _prefixes(current):
            for other in repeats.get(prefix, ()):
                alias = other + current[len(prefix) :]
                if alias not in found:
                    if len(found) > MAX_ALIASES:
                        return tuple(found)[1:]
                    found[alias] = None
                    pending.append(alias)
    return tuple(found)[1:]


def _prefixes(path: str) -> Iterator[str]:
    """Yield the path and each of its parents but the root."""
    while path:
        yield path
        path = path.rpartition(".")[0]
