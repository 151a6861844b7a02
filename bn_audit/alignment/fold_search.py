"""Which layer took up a batch norm that the other artifact lacks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bn_audit.alignment.folding import PLAUSIBLE_MEDIAN, Scaling, check_fold
from bn_audit.alignment.norm_values import NormValues
from bn_audit.subject.comparison import FoldCheck
from bn_audit.subject.norm import NormLayer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoundFold:
    """A batch norm and the layer that took it up."""

    norm: NormLayer
    scaling: Scaling
    check: FoldCheck


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Candidate:
    """A layer and a weight that may have taken it up.

    Attributes:
        median: Of the deviations of the scales.
        is_fold: Each filter is scaled and none is turned, so that the weight took up some batch norm.
    """

    norm: int
    scaling: int
    check: FoldCheck
    is_neighbour: bool
    median: float
    is_fold: bool

    @property
    def rank(self) -> tuple[bool, bool, float, int]:
        """Less is better."""
        return not self.check.holds, not self.is_neighbour, self.median, self.norm

    @property
    def is_plausible(self) -> bool:
        return bool(self.check.holds) or self.is_neighbour or self.is_fold or self.median <= PLAUSIBLE_MEDIAN


def find_folds(norms: Sequence[NormValues], scalings: Sequence[Scaling], orders: Mapping[str, int]) -> list[FoundFold]:
    """Return the folds, each layer and each weight at most once: those that hold first.

    Args:
        norms: Batch norms that only one side has.
        scalings: How the weights of that side became those of the other.
        orders: Place of each layer's path in that side, for finding what stands before a batch norm.
    """
    candidates = []
    unchanged = {index for index, item in enumerate(scalings) if item.changes_nothing}
    for row, norm in enumerate(norms):
        before = _before(norm.norm, scalings, orders)
        for column, item in enumerate(scalings):
            if norm.channels == item.scale.size:
                check, median = check_fold(norm, item)
                if column in unchanged and not check.holds:
                    continue  # A fold that changes nothing is one of a batch norm that does nothing.
                path = item.plain.path
                named = path in (norm.norm.preceding, before) or _are_numbered_alike(path, norm.norm.path)
                candidates.append(
                    _Candidate(
                        norm=row,
                        scaling=column,
                        check=check,
                        is_neighbour=path != "" and named,
                        median=median,
                        is_fold=item.turns_nothing,
                    )
                )
    found = []
    used_norms: set[int] = set()
    used_scalings: set[int] = set()
    for best in sorted(candidates, key=lambda candidate: candidate.rank):
        if best.norm in used_norms or best.scaling in used_scalings or not best.is_plausible:
            continue
        used_norms.add(best.norm)
        used_scalings.add(best.scaling)
        found.append(FoundFold(norm=norms[best.norm].norm, scaling=scalings[best.scaling], check=best.check))
    return found


def _are_numbered_alike(path: str, norm: str) -> bool:
    """Return whether two layers of one parent bear the same number, such as ``conv2`` and ``bn2``."""
    one, other = path.rpartition("."), norm.rpartition(".")
    numbers = [re.sub(r"\D+", " ", leaf).split() for leaf in (one[2], other[2])]
    return one[0] == other[0] and numbers[0] == numbers[1] and not one[2].isdigit()


def _before(norm: NormLayer, scalings: Sequence[Scaling], orders: Mapping[str, int]) -> str | None:
    """Return the path of the nearest layer before a batch norm below the same parent, as names and order show it."""
    place = orders.get(norm.path)
    if norm.preceding is not None or place is None:
        return None
    parent = norm.path.rpartition(".")[0]
    best, distance = None, math.inf
    for item in scalings:
        path = item.plain.path
        there = orders.get(path)
        if there is not None and path.rpartition(".")[0] == parent and 0 < place - there < distance:
            best, distance = path, place - there
    return best
