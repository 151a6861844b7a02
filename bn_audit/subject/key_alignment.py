"""How the tensor names of two models fit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMatch:
    """One tensor of each side that are the same by name.

    Attributes:
        renamed: The names differ by more than a prefix that all names bear: an alias or a mapping was applied.
    """

    reference: str
    target: str
    renamed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMismatch:
    """One tensor that both sides have, with another shape or dtype.

    Attributes:
        difference: One clause, such as ``shape [6], the model has [8]``: the target's first.
        is_shape: True where the shapes differ, False where only the dtypes do.
    """

    reference: str
    target: str
    difference: str
    is_shape: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAlignment:
    """How the tensor names of one model fit those of another.

    Attributes:
        reference: The artifact whose names are expected, as messages call it; ``the model`` for a factory whose
            weights are given as a file.
        target: The artifact that should have them, as messages call it.
        reference_route: Route of the model within the reference.
        target_route: Route of the model within the target.
        matched: Tensors on both sides with equal shapes; a differing dtype is listed in `mismatched` besides.
        missing: Names of the reference that the target lacks, by the reference's names.
        unexpected: Names of the target that the reference lacks, by the target's names.
        mismatched: Tensors on both sides with another shape or dtype.
        reference_prefix: Prefix stripped from every name of the reference to match; ``""`` for none.
        target_prefix: Prefix stripped from every name of the target to match; ``""`` for none.
        complete: True where both sides hold all names of a model; False where a graph keeps only some, so that the
            names here are those of norm layers, convolutions and linear layers alone.
        foreign: Names of another framework (gamma, moving_mean ...) on either side, that were matched as aliases.
    """

    reference: str
    target: str
    reference_route: str = ""
    target_route: str = ""
    matched: tuple[KeyMatch, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[KeyMismatch, ...] = ()
    reference_prefix: str = ""
    target_prefix: str = ""
    foreign: tuple[str, ...] = ()
    complete: bool = True

    @property
    def total(self) -> int:
        """How many names the reference has."""
        return len(self.matched) + len(self.missing) + sum(item.is_shape for item in self.mismatched)
