"""Safetensors files, single or sharded with an index: tensors by name, and nothing else.

The same format carries Candle's models (no ``num_batches_tracked``, which is no fault) and Burn's exports
(``gamma``/``beta`` for weight and bias).
"""

from __future__ import annotations

from bn_audit.containers.safetensors_header import header_length, read_header
from bn_audit.containers.shards import ShardIndex, lone_shard
from bn_audit.containers.target import FileTarget, Target
from bn_audit.errors import MalformedFileError, NoModelError
from bn_audit.interfaces import Format
from bn_audit.recognition.state_dict import layers_of_state_dict
from bn_audit.subject.subject import Facts, Form, Model, Subject
from bn_audit.subject.tensor import TensorRef

NAME = "safetensors"


def sniff(target: Target) -> bool:
    """Return whether the file begins as a safetensors file, or is the index of such shards."""
    if not isinstance(target, FileTarget):
        return False
    if target.shard_index is not None:
        return any(shard.endswith(".safetensors") for shard in target.shard_index.shards)
    return header_length(target.source) is not None


def read(target: Target) -> Subject:
    """Return the one state dict that the file or its shards hold.

    Raises:
        NoModelError: there is no tensor in it.
        ArtifactError: it is damaged, or a shard is missing.
    """
    if not isinstance(target, FileTarget):
        raise NoModelError(f"{target.name}: not a file")
    index = target.shard_index
    tensors = _read_shards(target, index) if index is not None else read_header(target.source)
    if not tensors:
        raise NoModelError(f"{target.name}: no model found, the file holds no tensors")
    layers = layers_of_state_dict(tensors, model="", in_layer_order=False)
    partial = lone_shard(target.source.path.name) if index is None else None
    return Subject(
        source=target.name,
        format=NAME,
        facts=Facts.VALUES,
        models=(Model(route="", form=Form.STATE_DICT, tensors=tuple(tensors.values())),),
        norms=layers.norms,
        orphans=layers.orphans if partial is None else (),
        unread=() if partial is None else (partial,),
    )


def _read_shards(target: FileTarget, index: ShardIndex) -> dict[str, TensorRef]:
    by_shard = {shard: read_header(target.source.sibling(shard)) for shard in index.shards}
    tensors = {}
    for name, shard in index.weight_map.items():
        if name not in by_shard[shard]:
            raise MalformedFileError(f"{target.name}: names tensor {name!r} in {shard}, which does not hold it")
        tensors[name] = by_shard[shard][name]
    return tensors


FORMAT = Format(
    name=NAME,
    summary="safetensors files, single or sharded with an index (PyTorch, Candle, Burn)",
    tells="names, shapes and values of weight, bias and running statistics",
    cannot_tell="mode, eps, momentum, the class of a layer",
    sniff=sniff,
    read=read,
)
