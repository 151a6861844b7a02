"""The batch norms of a live model that patterns name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from bn_audit.alignment.claims import match_frozen
from bn_audit.audit import read_subject
from bn_audit.errors import UsageError
from bn_audit.subject.subject import Subject

if TYPE_CHECKING:
    from torch import nn

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A batch norm by its path."""

    path: str
    module: nn.Module


def chosen_norms(model: nn.Module, patterns: Sequence[str] | None, caller: str) -> tuple[Chosen, ...]:
    """Return the batch norms of a model that patterns name, in the order of the model.

    Args:
        patterns: Globs, as `match_frozen` takes them; None for every batch norm.
        caller: Name of the function that messages begin with.

    Raises:
        UsageError: `model` is no module; a pattern matches none; a layer cannot be reached, or runs as TorchScript.
        ArtifactError: all of the model is TorchScript.
    """
    from torch import nn

    if not isinstance(model, nn.Module):
        raise UsageError(f"{caller}: a {type(model).__module__}.{type(model).__qualname__}: give a torch.nn.Module")
    if isinstance(patterns, str):
        raise UsageError(f"{caller}: patterns is the text {patterns!r}: give a list of patterns")
    with read_subject(model) as subject:
        if patterns is None:
            if subject.unread:
                raise UsageError(
                    f"{caller}: {subject.unread[0].partition(':')[0]}: a TorchScript module, whose layers cannot be "
                    "frozen: freeze before torch.jit.script, or give patterns that leave it out"
                )
            paths = [norm.path for norm in subject.batch_norms]
        else:
            paths = _matching(subject, patterns, caller)
    return tuple(Chosen(path=path, module=_module_at(model, path, caller)) for path in paths)


def listed(paths: Sequence[str]) -> str:
    """Return the first few paths and how many more there are."""
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return f"{', '.join(path or '(root)' for path in paths[:_SHOWN])}{more}"


def _matching(subject: Subject, patterns: Sequence[str], caller: str) -> list[str]:
    matched: set[str] = set()
    for pattern in match_frozen(subject, patterns):
        if not pattern.layers:
            raise UsageError(f"{caller}: {pattern.pattern!r} matches no batch norm{_nearest(subject, pattern.pattern)}")
        matched.update(location.path for location in pattern.layers)
    return [norm.path for norm in subject.batch_norms if norm.path in matched]


def _nearest(subject: Subject, pattern: str) -> str:
    """Return what follows in the message: names of layers, or of parts that hold some, that look like the pattern."""
    known: dict[str, None] = {}
    for norm in subject.batch_norms:
        path = norm.path
        while path:
            known.setdefault(path)
            path = path.rpartition(".")[0]
    if not known:
        return ": the model has none"
    near = get_close_matches(pattern.rstrip("*."), known, n=3, cutoff=0.4)
    return f": did you mean {' or '.join(near)}?" if near else f": they are {listed(list(known))}"


def _module_at(model: nn.Module, path: str, caller: str) -> nn.Module:
    """Return the module at a path, which may lead through plain lists and dicts.

    Raises:
        UsageError: nothing, or no module, is there.
    """
    from torch import nn

    found: object = model
    for part in path.split(".") if path else ():
        found = _inside(found, part)
    if not isinstance(found, nn.Module):
        raise UsageError(f"{caller}: {path}: cannot be reached by its path: register it in the model (nn.ModuleList)")
    return found


def _inside(holder: object, part: str) -> object:
    from torch import nn

    if isinstance(holder, nn.Module):
        return holder._modules.get(part, vars(holder).get(part))
    if isinstance(holder, dict):
        return holder.get(part, holder.get(int(part)) if part.isdecimal() else None)
    if isinstance(holder, list | tuple) and part.isdecimal() and int(part) < len(holder):
        inner: object = holder[int(part)]
        return inner
    return None
