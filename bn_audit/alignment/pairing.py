"""Aligns one model with another: norm layers, folds, convolutions, names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from bn_audit.alignment.fold_search import FoundFold, find_folds
from bn_audit.alignment.folding import Scaling, try_scaling
from bn_audit.alignment.keys import Rules
from bn_audit.alignment.layers import LIKE, NormPair, pair_by_contents, pair_by_likeness, pair_by_path
from bn_audit.alignment.matrices import turned_alike
from bn_audit.alignment.model_side import ModelSide
from bn_audit.alignment.naming import mapped
from bn_audit.alignment.norm_values import NormValues, values_of_norm
from bn_audit.alignment.weights import WeightPair, pair_weights
from bn_audit.subject.comparison import NotCompared
from bn_audit.subject.key_alignment import KeyAlignment
from bn_audit.subject.norm import NormLayer


@dataclass(slots=True, kw_only=True, eq=False)
class Alignment:
    """One model of each side, aligned.

    Attributes:
        keys: How the names fit; of a graph those that are known.
        norms: Layers on both sides.
        folds: Batch norms of the reference that the target folded.
        reverse_folds: Batch norms of the target that the reference folded.
        weights: Convolutions and linear layers on both sides.
        scalings: By pair of weights, for those that were read.
        problems: What could not be compared.
    """

    reference: ModelSide
    target: ModelSide
    keys: KeyAlignment
    norms: list[NormPair] = field(default_factory=list)
    folds: list[FoundFold] = field(default_factory=list)
    reverse_folds: list[FoundFold] = field(default_factory=list)
    weights: list[WeightPair] = field(default_factory=list)
    scalings: dict[int, Scaling] = field(default_factory=dict)
    problems: list[NotCompared] = field(default_factory=list)
    _values: dict[int, NormValues] = field(default_factory=dict)

    def values(self, norm: NormLayer) -> NormValues:
        """Return the tensors of a layer, read once."""
        if id(norm) not in self._values:
            self._values[id(norm)] = values_of_norm(norm)
        return self._values[id(norm)]

    def unpaired(self) -> tuple[list[NormLayer], list[NormLayer]]:
        """Return the norm layers of either side that are neither paired nor folded."""
        mine = {id(pair.reference) for pair in self.norms} | {id(fold.norm) for fold in self.folds}
        theirs = {id(pair.target) for pair in self.norms} | {id(fold.norm) for fold in self.reverse_folds}
        return (
            [norm for norm in self.reference.norms if id(norm) not in mine],
            [norm for norm in self.target.norms if id(norm) not in theirs],
        )


def align(reference: ModelSide, target: ModelSide, rules: Rules) -> Alignment:
    """Return how two models align; reads the tensors of norm layers that no path pairs, and what folds need."""
    reference, target, keys = turned_alike(reference, target, rules)
    fitted = _fitting(keys, rules)
    alignment = Alignment(reference=reference, target=target, keys=keys)
    is_nameless = _lacks_paths(reference) or _lacks_paths(target)
    if not is_nameless:
        alignment.norms = pair_by_path(reference.norms, target.norms, fitted)
    if all(alignment.unpaired()):
        alignment.norms += pair_by_contents(*alignment.unpaired(), alignment.values)
    if is_nameless:
        alignment.norms += pair_by_likeness(*alignment.unpaired(), alignment.values, within=LIKE)
    missing, added = alignment.unpaired()
    is_needed = bool(missing or added) or not (reference.complete or target.complete)
    alignment.weights = pair_weights(reference.weighted, target.weighted, fitted, by_direction=is_needed)
    _find_folds(alignment, missing, added)
    if is_nameless:
        alignment.norms += pair_by_likeness(*alignment.unpaired(), alignment.values)
    order = {id(norm): place for place, norm in enumerate(reference.norms)}
    alignment.norms.sort(key=lambda pair: order[id(pair.reference)])
    return alignment


def _lacks_paths(side: ModelSide) -> bool:
    """Return whether the layers of a model are known by no module path."""
    return not side.complete and not any(layer.path for layer in side.weighted)


def _fitting(keys: KeyAlignment, rules: Rules) -> Callable[[str], str]:
    """Return a function from a path of the reference to the path that it has in the target."""

    def fitted(path: str) -> str:
        # Rules and prefixes are about the names of tensors: a path is fitted as the beginning of one.
        name = mapped(f"{path}.weight" if path else "weight", rules)
        if keys.reference_prefix:
            name = name.removeprefix(keys.reference_prefix)
        return f"{keys.target_prefix}{name}".removesuffix("weight").removesuffix(".")

    return fitted


def _find_folds(alignment: Alignment, missing: Sequence[NormLayer], added: Sequence[NormLayer]) -> None:
    mine, theirs = _foldable(alignment, missing), _foldable(alignment, added)
    if mine:
        scalings = list(_scalings(alignment, {norm.channels for norm in mine}))
        alignment.folds = find_folds(mine, scalings, _order(alignment.reference))
    if theirs:
        taken = {id(fold.scaling.folded) for fold in alignment.folds}
        reverse = [
            scaling
            for index, pair in enumerate(alignment.weights)
            if id(pair.target) not in taken and (scaling := _reversed(alignment, index, pair, theirs)) is not None
        ]
        alignment.reverse_folds = find_folds(theirs, reverse, _order(alignment.target))


def _foldable(alignment: Alignment, norms: Iterable[NormLayer]) -> list[NormValues]:
    return [
        alignment.values(norm)
        for norm in norms
        if norm.kind.is_batch_norm and norm.has_running_statistics and alignment.values(norm).channels is not None
    ]


def _scalings(alignment: Alignment, channels: set[int | None]) -> Iterable[Scaling]:
    for index, pair in enumerate(alignment.weights):
        if channels & set(pair.reference.weight.shape) or pair.reference.groups or pair.target.groups:
            scaling = try_scaling(pair.reference, pair.target)
            if isinstance(scaling, Scaling):
                alignment.scalings[index] = scaling
                yield scaling
            else:
                alignment.problems.append(NotCompared(what=pair.target.weight.name, reason=scaling))


def _reversed(alignment: Alignment, index: int, pair: WeightPair, norms: Sequence[NormValues]) -> Scaling | None:
    if not any(norm.channels in pair.target.weight.shape for norm in norms) and not pair.target.groups:
        return None
    scaling = try_scaling(pair.target, pair.reference)
    if isinstance(scaling, Scaling):
        alignment.scalings.setdefault(index, scaling)
        return scaling
    alignment.problems.append(NotCompared(what=pair.target.weight.name, reason=scaling))
    return None


def _order(side: ModelSide) -> dict[str, int]:
    """Return the place of each layer, by path, as the artifact orders its tensors."""
    names = [ref.name for ref in side.model.tensors] or [layer.weight.name for layer in side.weighted]
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        places.setdefault(name.rpartition(".")[0], place)
    return places
