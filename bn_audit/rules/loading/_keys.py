"""What the names of a state dict's keys say about how it fits."""

from __future__ import annotations

from collections.abc import Iterable

from bn_audit.subject.finding import Location
from bn_audit.subject.subject import Loading, Subject

COUNTER = "num_batches_tracked"
STATISTICS = ("running_mean", "running_var")


def is_loaded(subject: Subject) -> bool:
    """Return whether a weights file was loaded into the model."""
    return subject.loading is not None


def location(key: str) -> Location:
    """Return where a finding about a key points."""
    path, _, tensor = key.rpartition(".")
    return Location(path=path, tensor=tensor)


def is_statistic(key: str) -> bool:
    """Return whether a key names a running mean or variance."""
    return key.rpartition(".")[2] in STATISTICS


def is_half_statistic(key: str, difference: str) -> bool:
    """Return whether a running mean or variance differs in nothing but a dtype of half precision."""
    return is_statistic(key) and "float16" in difference and "shape" not in difference


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


def is_clean(loading: Loading) -> bool:
    """Return whether every key matches, batch counters and casts aside."""
    differences = without_lone_counters(loading.missing) + without_lone_counters(loading.unexpected)
    return bool(loading.matched) and not differences and all(is_half_statistic(*pair) for pair in loading.mismatched)


def statistics_among(keys: tuple[str, ...]) -> str:
    """Return a remark on how many of the keys are running statistics; ``""`` for none."""
    count = sum(map(is_statistic, keys))
    return f", {count} of {'it' if len(keys) == 1 else 'them'} running statistics" if count else ""
