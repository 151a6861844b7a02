"""What the names of the tensors say about how two models fit, or a model and its weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from bn_audit.rules._drift import tensor_location
from bn_audit.subject.finding import Location
from bn_audit.subject.subject import Subject

if TYPE_CHECKING:
    from bn_audit.subject.comparison import Comparison
    from bn_audit.subject.key_alignment import KeyAlignment, KeyMismatch

COUNTER = "num_batches_tracked"
STATISTICS = ("running_mean", "running_var")
THE_MODEL = "the model"
"""What a factory or live module is called beside its weights; see `KeyAlignment.reference`."""


def has_keys_to_fit(subject: Subject) -> bool:
    """Return whether a weights file was loaded into the model, or the artifact stands beside a reference."""
    return subject.loading is not None or subject.comparison is not None


def fits_of(subject: Subject) -> Iterator[KeyAlignment]:
    """Yield how names fit: of the weights with the model, and of the artifact with its reference.

    Names that a fold explains are left out: those of the batch norm, and the bias that its layer got.
    """
    if subject.loading is not None:
        yield subject.loading
    if subject.comparison is not None:
        for alignment in subject.comparison.keys:
            yield _without_folds(alignment, subject.comparison)


def _without_folds(alignment: KeyAlignment, comparison: Comparison) -> KeyAlignment:
    folds = [pair for pair in comparison.pairs if pair.fold is not None]
    if not folds:
        return alignment
    missing: set[str] = set()
    unexpected: set[str] = set()
    for pair in folds:
        if pair.reference is not None and pair.reference.model == alignment.reference_route:
            missing.update(ref.name for ref in pair.reference.tensors.values())
            unexpected.update(_bias_of(pair.fold.into) if pair.fold is not None else ())
        elif pair.target is not None and pair.target.model == alignment.target_route:
            unexpected.update(ref.name for ref in pair.target.tensors.values())
            missing.update(_bias_of(pair.fold.into) if pair.fold is not None else ())
    return replace(
        alignment,
        missing=tuple(name for name in alignment.missing if name not in missing),
        unexpected=tuple(name for name in alignment.unexpected if name not in unexpected),
    )


def _bias_of(weight: str) -> tuple[str, ...]:
    return (f"{weight.removesuffix('weight')}bias",) if weight.endswith("weight") else ()


def of_reference(alignment: KeyAlignment) -> str:
    """Return how a message calls what has the names that are expected."""
    return THE_MODEL if alignment.reference == THE_MODEL else f"the reference {alignment.reference}"


def location(alignment: KeyAlignment, key: str) -> Location:
    """Return where a finding about a key points."""
    return tensor_location(key, model="" if alignment.reference == THE_MODEL else alignment.target_route)


def is_statistic(key: str) -> bool:
    """Return whether a key names a running mean or variance."""
    return key.rpartition(".")[2] in STATISTICS


def is_half_statistic(item: KeyMismatch) -> bool:
    """Return whether a running mean or variance differs in nothing but a dtype of half precision."""
    return is_statistic(item.target) and not item.is_shape and "float16" in item.difference


def lone_counters(keys: Iterable[str]) -> tuple[str, ...]:
    """Return the batch counters among `keys` whose layer has no other key there."""
    listed = tuple(keys)
    counters = {key for key in listed if key.rpartition(".")[2] == COUNTER}
    accompanied = {key.rpartition(".")[0] for key in listed if key not in counters}
    return tuple(key for key in listed if key in counters and key.rpartition(".")[0] not in accompanied)


def without_lone_counters(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys that are more than a batch counter alone."""
    lone = set(lone_counters(keys))
    return tuple(key for key in keys if key not in lone)


def is_clean(alignment: KeyAlignment) -> bool:
    """Return whether every key matches, batch counters and casts aside."""
    differences = without_lone_counters(alignment.missing) + without_lone_counters(alignment.unexpected)
    return bool(alignment.matched) and not differences and all(map(is_half_statistic, alignment.mismatched))


def statistics_among(keys: tuple[str, ...]) -> str:
    """Return a remark on how many of the keys are running statistics; ``""`` for none."""
    count = sum(map(is_statistic, keys))
    return f", {count} of {'it' if len(keys) == 1 else 'them'} running statistics" if count else ""
