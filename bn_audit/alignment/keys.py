"""Fits the tensor names of one model to those of another, as ``load_state_dict`` would, and says what it took."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bn_audit.alignment.naming import canonical, is_foreign, mapped, prefixes_of
from bn_audit.subject.key_alignment import KeyAlignment, KeyMatch, KeyMismatch
from bn_audit.subject.tensor import HALF_PRECISION

Rules = Sequence[tuple[re.Pattern[str], str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What a tensor looks like; the dtype None where it does not matter."""

    shape: tuple[int, ...]
    dtype: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The names of one model.

    Attributes:
        name: How messages call the artifact.
        route: Route of the model within it.
        roles: Names of norm layers' tensors by the name that PyTorch would give them.
    """

    name: str
    tensors: Mapping[str, Spec]
    route: str = ""
    roles: Mapping[str, str] | None = None

    def canonical(self, name: str) -> str:
        """Return a name as PyTorch would write it."""
        return (self.roles or {}).get(name) or canonical(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefixes:
    """What was stripped from the names of either side."""

    reference: str = ""
    target: str = ""


def best_prefixes(reference: Side, target: Side, rules: Rules = ()) -> tuple[Prefixes, int]:
    """Return the prefixes with which most names match, the shortest of equally good ones, and how many match.

    Names match where they are equal and belong to equal shapes: stripped far enough, all networks have a ``weight``.
    """
    expected = {mapped(reference.canonical(name), rules): spec.shape for name, spec in reference.tensors.items()}
    stored = {target.canonical(name): spec.shape for name, spec in target.tensors.items()}
    best, count = Prefixes(), -1
    cuts = [
        (cut, {(name[len(cut) :], shape) for name, shape in expected.items() if name.startswith(cut)})
        for cut in prefixes_of(tuple(expected))
    ]
    for target_cut in prefixes_of(tuple(stored)):
        names = {(name[len(target_cut) :], shape) for name, shape in stored.items() if name.startswith(target_cut)}
        for reference_cut, wanted in cuts:
            matching = len(wanted & names)
            length = len(reference_cut) + len(target_cut)
            if (matching, -length) > (count, -len(best.reference) - len(best.target)):
                best, count = Prefixes(reference=reference_cut, target=target_cut), matching
    return best, max(count, 0)


def align_keys(reference: Side, target: Side, *, rules: Rules = (), expected_by: str = "the reference") -> KeyAlignment:
    """Return how the names fit, prefixes stripped that fit better without, aliases and `rules` applied.

    Args:
        expected_by: What has the names of the reference, in clauses such as ``shape [9], the model has [4]``.
    """
    prefixes, _ = best_prefixes(reference, target, rules)
    available = _by_fitted_name(target, prefixes.target, ())
    matched: list[KeyMatch] = []
    mismatched: list[KeyMismatch] = []
    missing: list[str] = []
    taken: set[str] = set()
    foreign: list[str] = []
    for fitted, name in _by_fitted_name(reference, prefixes.reference, rules).items():
        other = available.get(fitted)
        if other is None:
            missing.append(name)
            continue
        taken.add(other)
        foreign.extend(item for item in (name, other) if is_foreign(item))
        spec, stored = reference.tensors[name], target.tensors[other]
        renamed = name.removeprefix(prefixes.reference) != other.removeprefix(prefixes.target)
        if spec.shape == stored.shape:
            matched.append(KeyMatch(reference=name, target=other, renamed=renamed))
        difference = _difference(reference.canonical(name), spec, stored, expected_by)
        if difference:
            is_shape = spec.shape != stored.shape
            mismatched.append(KeyMismatch(reference=name, target=other, difference=difference, is_shape=is_shape))
    has_match = bool(taken)
    return KeyAlignment(
        reference=reference.name,
        target=target.name,
        reference_route=reference.route,
        target_route=target.route,
        matched=tuple(matched),
        missing=tuple(missing),
        unexpected=tuple(name for name in target.tensors if name not in taken),
        mismatched=tuple(mismatched),
        reference_prefix=prefixes.reference if has_match else "",
        target_prefix=prefixes.target if has_match else "",
        foreign=tuple(foreign) if any(match.renamed for match in matched) else (),
    )


def _by_fitted_name(side: Side, prefix: str, rules: Rules) -> dict[str, str]:
    """Return the names of a side by what they are compared as; a name that needs no alias goes first."""
    found: dict[str, str] = {}
    for name in side.tensors:
        fitted = mapped(side.canonical(name), rules).removeprefix(prefix)
        if fitted not in found or name.removeprefix(prefix) == fitted:
            found[fitted] = name
    # A second name for the same thing stays itself, so that no name is left out of the account.
    placed = set(found.values())
    found.update((name, name) for name in side.tensors if name not in placed and name not in found)
    return found


def _difference(name: str, expected: Spec, stored: Spec, expected_by: str) -> str:
    if expected.shape != stored.shape:
        return f"shape {list(stored.shape)}, {expected_by} has {list(expected.shape)}"
    if expected.dtype is not None and stored.dtype is not None and dtype_matters(name, expected.dtype, stored.dtype):
        return f"dtype {stored.dtype}, {expected_by} has {expected.dtype}"
    return ""


def dtype_matters(name: str, expected: str, stored: str) -> bool:
    """Return whether another dtype does harm: another precision is what half-precision files are for.

    But not for running statistics, and integers are not what they stand for.
    """
    is_cast = stored in HALF_PRECISION and expected not in HALF_PRECISION and name.endswith(_STATISTICS)
    return is_cast or (_is_real(expected) and not _is_real(stored))


_STATISTICS = ("running_mean", "running_var")


def _is_real(dtype: str) -> bool:
    return dtype.startswith(("float", "bfloat"))
