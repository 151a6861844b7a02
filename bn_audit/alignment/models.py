"""Which model of the reference is compared with which model of the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bn_audit.alignment.keys import Rules, best_prefixes
from bn_audit.alignment.model_side import ModelSide, model_side
from bn_audit.subject.comparison import NotCompared
from bn_audit.subject.subject import Subject


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelMatch:
    """One model of each side."""

    reference: ModelSide
    target: ModelSide


def match_models(
    reference: Subject, target: Subject, rules: Rules
) -> tuple[tuple[ModelMatch, ...], tuple[NotCompared, ...]]:
    """Return the pairs of models, and those that stay without a partner.

    Models of the same route are a pair; of the others those whose names fit best, averaged copies with averaged ones
    first.
    """
    mine = [model_side(reference, model) for model in reference.models]
    theirs = [model_side(target, model) for model in target.models]
    routes = {side.model.route: side for side in theirs}
    both = [(side, routes[side.model.route]) for side in mine if side.model.route in routes]
    if len(mine) == 1 and len(theirs) == 1:
        both = [(mine[0], theirs[0])]
    elif not both or min(len(mine), len(theirs)) == 1:
        both = _best(mine, theirs, rules)
    matches = tuple(ModelMatch(reference=one, target=other) for one, other in both)
    left = [side for side in (*mine, *theirs) if not any(side in pair for pair in both)]
    return matches, tuple(
        NotCompared(what=f"model '{side.model.route}' of {side.subject.source}", reason="the other artifact has none")
        for side in left
    )


def _best(mine: Sequence[ModelSide], theirs: Sequence[ModelSide], rules: Rules) -> list[tuple[ModelSide, ModelSide]]:
    scored = []
    for row, one in enumerate(mine):
        for column, other in enumerate(theirs):
            _prefixes, count = best_prefixes(one.names(), other.names(), rules)
            unlike = one.model.averaged != other.model.averaged
            scored.append((-count, unlike, row, column))
    found: list[tuple[ModelSide, ModelSide]] = []
    rows: set[int] = set()
    columns: set[int] = set()
    for _count, _unlike, row, column in sorted(scored):
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            found.append((mine[row], theirs[column]))
    return found
