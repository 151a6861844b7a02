"""What wrappers and other frameworks make of a tensor's name.

Sources of the foreign names: tf.keras.layers.BatchNormalization (gamma, beta, moving_mean, moving_variance, ``:0``),
burn ``nn/norm/batch.rs`` (gamma, beta), caffe2 ``spatial_bn_op`` (``_s``, ``_b``, ``_rm``, ``_riv``), candle-nn
``batch_norm.rs`` (PyTorch's names).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from bn_audit.errors import UsageError

WRAPPER_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.")
"""What wrappers and checkpoints put before the names of the model inside: DataParallel, torch.compile, Lightning ..."""

_WRAPPED = tuple(prefix for prefix in WRAPPER_PREFIXES if prefix not in ("backbone.", "encoder."))
"""Prefixes that a pattern need not name; a backbone is what patterns are about."""

_MAX_WRAPPERS = 3

FOREIGN_LEAVES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
    "moving_variance": "running_var",
}
"""Last parts of names of TensorFlow, Keras, JAX and Burn, by PyTorch's."""

_OTHER_LEAVES = {"gain": "weight", "stored_mean": "running_mean", "stored_var": "running_var"}
_CAFFE2_LEAVES = {"s": "weight", "b": "bias", "rm": "running_mean", "riv": "running_var"}
_CAFFE2 = re.compile(r"^(.*_bn)_(s|b|rm|riv)$")
_COMMON_SHARE = 0.5
"""A prefix borne by fewer names is no wrapper's: the names of a part of the model."""
_PREFIX_PARTS = 4


def canonical(name: str) -> str:
    """Return a name as PyTorch would write it: dots between its parts, the tensors of a norm layer by its roles."""
    if name.endswith(":0"):
        name = name[:-2]
    if "/" in name and "." not in name:
        name = name.strip("/").replace("/", ".")
    caffe2 = _CAFFE2.match(name)
    if caffe2 is not None:
        return f"{caffe2[1]}.{_CAFFE2_LEAVES[caffe2[2]]}"
    path, dot, leaf = name.rpartition(".")
    return f"{path}{dot}{FOREIGN_LEAVES.get(leaf) or _OTHER_LEAVES.get(leaf) or leaf}"


def is_foreign(name: str) -> bool:
    """Return whether a name is that of another framework than PyTorch."""
    leaf = re.split(r"[./]", name.removesuffix(":0"))[-1]
    return leaf in FOREIGN_LEAVES or _CAFFE2.match(name) is not None


def prefixes_of(names: Sequence[str]) -> tuple[str, ...]:
    """Return the prefixes that may be a wrapper's, shortest first: those of all names, and those of most of them."""
    found = [""]
    prefix = ""
    while names:
        rest = names[0].removeprefix(prefix)
        step = next((item for item in WRAPPER_PREFIXES if rest.startswith(item)), f"{rest.partition('.')[0]}.")
        if not all(name.startswith(prefix + step) for name in names):
            break
        prefix += step
        found.append(prefix)
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")[:-1][:_PREFIX_PARTS]
        counts.update(".".join(parts[: index + 1]) + "." for index in range(len(parts)))
    common = [item for item, count in counts.items() if count >= _COMMON_SHARE * len(names)]
    return tuple(dict.fromkeys((*found, *sorted(common, key=len))))


def parse_mapping(rules: Iterable[str]) -> tuple[tuple[re.Pattern[str], str], ...]:
    """Return (pattern, replacement) of each ``OLD=NEW``, where OLD is a regular expression over the reference's names.

    Raises:
        UsageError: no ``=`` in it, or no regular expression before it.
    """
    parsed = []
    for rule in rules:
        old, equals, new = rule.partition("=")
        try:
            pattern = re.compile(old)
            if not equals or not old:
                raise re.error("it is written OLD=NEW")  # noqa: TRY301
            pattern.sub(new, "")
        except (re.error, IndexError, RecursionError, OverflowError) as error:
            raise UsageError(f"--map {rule}: {error}: OLD is a regular expression over the reference's names") from None
        parsed.append((pattern, new))
    return tuple(parsed)


def mapped(name: str, rules: Sequence[tuple[re.Pattern[str], str]]) -> str:
    """Return a name of the reference after every rule in order."""
    for pattern, new in rules:
        try:
            name = pattern.sub(new, name)
        except (re.error, IndexError) as error:
            raise UsageError(f"--map {pattern.pattern}={new}: {error}") from None
    return name


def paths_above(name: str) -> Iterator[str]:
    """Yield a name and every path above it, with and without the prefixes of wrappers."""
    for bare in _unwrapped(name):
        path = bare
        while path:
            yield path
            path = path.rpartition(".")[0]


def _unwrapped(name: str) -> Iterator[str]:
    yield name
    for _ in range(_MAX_WRAPPERS):
        prefix = next((item for item in _WRAPPED if name.startswith(item)), None)
        if prefix is None:
            return
        name = name.removeprefix(prefix)
        yield name
