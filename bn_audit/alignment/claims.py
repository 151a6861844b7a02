"""Which layers and tensors a run claims to keep frozen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate

from bn_audit.alignment.naming import paths_above
from bn_audit.errors import UsageError
from bn_audit.subject.comparison import FrozenPattern
from bn_audit.subject.norm import NormLayer
from bn_audit.subject.subject import Subject


def match_frozen(subject: Subject, patterns: Iterable[str]) -> tuple[FrozenPattern, ...]:
    """Return what each pattern matches in an artifact.

    Args:
        patterns: Globs over dotted paths (``*`` goes over dots), with or without the prefixes that wrappers add.
            A pattern also matches everything below the paths that it matches: ``vfe`` stands for ``vfe.*`` too.

    Raises:
        UsageError: an empty pattern.
    """
    return tuple(_match(subject, pattern) for pattern in patterns)


def _match(subject: Subject, pattern: str) -> FrozenPattern:
    if not pattern.strip("."):
        raise UsageError(f"--frozen {pattern!r}: matches nothing: name layers, such as 'backbone.*'")
    is_match = re.compile(translate(pattern)).match
    names = dict.fromkeys(ref.name for model in subject.models for ref in model.tensors)
    tensors = [name for name in names if any(map(is_match, paths_above(name)))]
    layers = [norm for norm in subject.batch_norms if any(map(is_match, _layer_paths(norm)))]
    below = (ref.name for norm in layers for ref in norm.tensors.values())
    return FrozenPattern(
        pattern=pattern,
        layers=tuple(norm.location for norm in layers),
        tensors=tuple(dict.fromkeys((*tensors, *below))),
    )


def _layer_paths(norm: NormLayer) -> Sequence[str]:
    return [path for name in (norm.path, *norm.aliases) for path in paths_above(name)]
