"""A target beside its reference: everything that aligns, and everything that differs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet

from bn_audit.alignment.drift import drift_of
from bn_audit.alignment.fold_search import FoundFold
from bn_audit.alignment.models import match_models
from bn_audit.alignment.pairing import Alignment, align
from bn_audit.alignment.partial_names import keys_of_graph
from bn_audit.alignment.values import TensorPair, compare_values
from bn_audit.errors import UnrelatedError
from bn_audit.subject.comparison import (
    Comparison,
    LayerPair,
    ModelPair,
    NotCompared,
    PairedBy,
    ValueComparison,
    ValueMismatch,
)
from bn_audit.subject.scope import ValueScope
from bn_audit.subject.subject import Subject

BY_DEFAULT = "not read by default: compare with --values all"


def compare_subjects(
    reference: Subject,
    target: Subject,
    *,
    rules: Sequence[tuple[re.Pattern[str], str]] = (),
    scope: ValueScope = ValueScope.BATCH_NORM,
) -> Comparison:
    """Return how the target differs from the reference.

    Args:
        rules: Pattern and replacement of each mapping of the reference's names to the target's.
        scope: Which tensors are read; those of norm layers, those that folds need and those that `target.frozen`
            names are read in any case.

    Raises:
        UnrelatedError: the two have nothing in common, so that there is nothing to compare.
    """
    matches, left = match_models(reference, target, rules)
    alignments = [align(match.reference, match.target, rules) for match in matches]
    _check_related(reference, target, alignments)
    return Comparison(
        reference=reference.source,
        reference_format=reference.format,
        target=target.source,
        models=tuple(_model_pair(alignment) for alignment in alignments),
        pairs=tuple(pair for alignment in alignments for pair in _layer_pairs(alignment)),
        added=tuple(norm for alignment in alignments for norm in alignment.unpaired()[1]),
        keys=tuple(keys_of_graph(alignment) for alignment in alignments),
        drift=tuple(
            drift_of(alignment.values(pair.reference), alignment.values(pair.target))
            for alignment in alignments
            for pair in alignment.norms
        ),
        values=_values(alignments, left, scope, frozenset(name for item in target.frozen for name in item.tensors)),
        remarks=tuple(remark for alignment in alignments for remark in _remarks(alignment)),
    )


def _remarks(alignment: Alignment) -> Iterator[str]:
    for side in (alignment.reference, alignment.target):
        if side.turned:
            count = f"{len(side.turned)} linear weight{'s lie' if len(side.turned) > 1 else ' lies'}"
            yield f"{side.called}: {count} as (in, out) and {'are' if len(side.turned) > 1 else 'is'} turned"


def _check_related(reference: Subject, target: Subject, alignments: Sequence[Alignment]) -> None:
    if any(
        item.keys.matched or item.keys.mismatched or item.norms or item.folds or item.weights for item in alignments
    ):
        return
    if any(item.reverse_folds for item in alignments):
        return
    raise UnrelatedError(
        f"{target.source}: has no tensor or layer in common with {reference.source}: compare two artifacts of one "
        "network, or say with --map OLD=NEW how names of the one become those of the other"
    )


def _model_pair(alignment: Alignment) -> ModelPair:
    return ModelPair(
        reference=alignment.reference.model.route,
        target=alignment.target.model.route,
        reference_averaged=alignment.reference.model.averaged,
        target_averaged=alignment.target.model.averaged,
    )


def _layer_pairs(alignment: Alignment) -> Iterator[LayerPair]:
    targets = {id(pair.reference): pair for pair in alignment.norms}
    folds = {id(fold.norm): fold for fold in alignment.folds}
    for norm in alignment.reference.norms:
        pair, fold = targets.get(id(norm)), folds.get(id(norm))
        if pair is not None:
            yield LayerPair(reference=norm, target=pair.target, paired_by=pair.paired_by)
        elif fold is not None:
            yield LayerPair(reference=norm, target=None, paired_by=PairedBy.FOLD, fold=fold.check)
        else:
            yield LayerPair(reference=norm, target=None, paired_by=None)
    for fold in alignment.reverse_folds:
        yield LayerPair(reference=None, target=fold.norm, paired_by=PairedBy.FOLD, fold=fold.check)


def _values(
    alignments: Sequence[Alignment], left: Sequence[NotCompared], scope: ValueScope, frozen: AbstractSet[str]
) -> ValueComparison:
    compared: list[str] = []
    elements = 0
    mismatched: list[ValueMismatch] = []
    skipped = [*left]
    for alignment in alignments:
        skipped.extend(alignment.problems)
        skipped.extend(_unread_norms(alignment))
        unread = 0
        for pair, is_needed in _tensor_pairs(alignment):
            if scope is not ValueScope.ALL and not is_needed and pair.target_name not in frozen:
                unread += 1
                continue
            result = compare_values(pair)
            if isinstance(result, NotCompared):
                skipped.append(result)
                continue
            compared.append(pair.target_name)
            elements += pair.target.numel
            if result is not None:
                mismatched.append(result)
        if unread:
            what = f"the values of {unread} tensor{'s' if unread > 1 else ''} outside norm layers"
            skipped.append(NotCompared(what=what, reason=BY_DEFAULT, by_choice=True))
    return ValueComparison(
        scope=scope,
        compared=tuple(compared),
        elements=elements,
        mismatched=tuple(mismatched),
        not_compared=tuple(skipped),
    )


def _unread_norms(alignment: Alignment) -> Iterator[NotCompared]:
    for pair in alignment.norms:
        for norm in (pair.reference, pair.target):
            problem = alignment.values(norm).problem
            if problem is not None:
                yield NotCompared(what=f"norm layer {norm.path}", reason=problem)
                break
    for fold in (*alignment.folds, *alignment.reverse_folds):
        if fold.check.holds is None:
            yield NotCompared(what=f"the fold of {fold.norm.path}", reason=fold.check.why)


def _tensor_pairs(alignment: Alignment) -> Iterator[tuple[TensorPair, bool]]:
    """Yield the tensors outside norm layers that should be equal, and whether a fold may lie in them."""
    folded = _folded_names(alignment.folds) | _folded_names(alignment.reverse_folds)
    of_norms = {
        ref.name
        for side in (alignment.reference, alignment.target)
        for norm in side.norms
        for ref in norm.tensors.values()
    }
    feeding = {pair.reference.preceding for pair in alignment.norms} | {
        pair.target.preceding for pair in alignment.norms
    }
    is_graph = not (alignment.reference.complete and alignment.target.complete)
    seen: set[str] = set()
    for weights in alignment.weights:
        one, other = weights.reference, weights.target
        if other.weight.name in folded or one.weight.name in folded:
            seen.update((other.weight.name, other.bias.name if other.bias is not None else ""))
            continue
        may_be_folded = (
            is_graph and not (one.path and one.path in feeding) and not (other.path and other.path in feeding)
        )
        parts = [(one.weight, other.weight, "weight"), (one.bias, other.bias, "bias")]
        for mine, theirs, leaf in parts:
            if mine is None or theirs is None:
                continue
            path = other.path or one.path
            name = theirs.name if alignment.target.complete or not path else f"{path}.{leaf}"
            seen.add(theirs.name)
            turned = len(mine.shape) == 2 and bool(one.transposed) != bool(other.transposed)
            if theirs.name not in of_norms and theirs.shape in (mine.shape, mine.shape[::-1]):
                pair = TensorPair(
                    reference=mine, target=theirs, reference_name=mine.name, target_name=name, is_transposed=turned
                )
                yield pair, may_be_folded
    for match in alignment.keys.matched:
        mine, theirs = alignment.reference.tensors.get(match.reference), alignment.target.tensors.get(match.target)
        if mine is None or theirs is None or theirs.name in seen or {mine.name, theirs.name} & of_norms:
            continue
        yield (
            TensorPair(reference=mine, target=theirs, reference_name=match.reference, target_name=match.target),
            False,
        )


def _folded_names(folds: Sequence[FoundFold]) -> set[str]:
    """Return the names of the weights that a fold was checked with."""
    return {layer.weight.name for fold in folds for layer in (fold.scaling.plain, fold.scaling.folded)}
