"""Index files of sharded checkpoints: which tensor lies in which file.

Source: huggingface_hub ``serialization/_base.py`` and transformers ``modeling_utils.py``, ``*.index.json`` with the
keys ``metadata`` and ``weight_map`` (tensor name to file name).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from bn_audit.containers.source import Source
from bn_audit.errors import LimitExceededError, MalformedFileError

MAX_INDEX_BYTES = 64 << 20
"""Cap on the index: a million tensors take about 80 bytes each."""


_SHARD_NAME = re.compile(r".*-(\d{5})-of-(\d{5})\.\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardIndex:
    """The index of a sharded checkpoint.

    Attributes:
        weight_map: Name of each tensor and the file that holds it, in the index's order.
    """

    weight_map: dict[str, str]

    @property
    def shards(self) -> tuple[str, ...]:
        """The files, each once, in the order of their first tensor."""
        return tuple(dict.fromkeys(self.weight_map.values()))


def read_shard_index(source: Source) -> ShardIndex | None:
    """Return the index; None where the file is some other JSON or none at all.

    Raises:
        MalformedFileError: it has a ``weight_map`` that does not map names to file names.
        LimitExceededError: it is larger than `MAX_INDEX_BYTES`.
    """
    if source.head(64).lstrip()[:1] != b"{":
        return None
    if source.size > MAX_INDEX_BYTES:
        raise LimitExceededError(
            f"{source.name}: {source.size} bytes of JSON, more than the {MAX_INDEX_BYTES} read here"
        )
    try:
        document = json.loads(source.read(0, source.size))
    except (ValueError, RecursionError):
        return None
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    if weight_map is None:
        return None
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise MalformedFileError(
            f"{source.name}: its weight_map does not map tensor names to file names: write it anew"
        )
    if not weight_map:
        raise MalformedFileError(f"{source.name}: its weight_map is empty: the checkpoint has no tensors")
    return ShardIndex(weight_map=weight_map)


def lone_shard(file_name: str) -> str | None:
    """Return what is missing where a file is called like one of several shards; None for any other file."""
    number = _SHARD_NAME.fullmatch(file_name)
    if number is None or int(number[2]) < 2:
        return None
    return (
        f"this is shard {int(number[1])} of {int(number[2])}: layers may lie partly in the others; "
        "check the index file (.index.json) instead"
    )
