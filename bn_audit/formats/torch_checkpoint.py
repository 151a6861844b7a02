"""Checkpoints written by ``torch.save`` or ``pickle``: modules and state dicts, read as inert data.

One file may hold several models of either form, beside optimizer state and anything else. Nothing is imported and
nothing runs: classes that are not installed are read as well as those that are.

Source: torch/serialization.py, torch/_utils.py and torch/nn/modules/module.py of PyTorch 0.1 to 2.13; sharded
checkpoints as transformers writes them (``pytorch_model.bin.index.json``).
"""

from __future__ import annotations

from bn_audit.containers.target import FileTarget, Target
from bn_audit.containers.torch_file.sniff import looks_like_torch_file
from bn_audit.errors import NoModelError
from bn_audit.interfaces import Format
from bn_audit.subject.subject import Subject

NAME = "torch-checkpoint"


def sniff(target: Target) -> bool:
    """Return whether the file was written by ``torch.save`` or ``pickle``, or is the index of such shards."""
    if not isinstance(target, FileTarget):
        return False
    if target.shard_index is not None:
        return not any(shard.endswith(".safetensors") for shard in target.shard_index.shards)
    return looks_like_torch_file(target)


def read(target: Target) -> Subject:
    """Return every model of the checkpoint.

    Raises:
        NoModelError: there is none in it.
        UnsupportedFormatError: it is a shard of a distributed checkpoint.
        ArtifactError: it is damaged, or larger than what is read here.
    """
    if not isinstance(target, FileTarget):
        raise NoModelError(f"{target.name}: not a file")
    from bn_audit.formats._checkpoint.reading import read_checkpoint  # every check sniffs, few read this format

    return read_checkpoint(target, format_name=NAME)


FORMAT = Format(
    name=NAME,
    summary="PyTorch checkpoints: torch.save or pickle of modules, state dicts and dicts of both",
    tells="module: mode, eps, momentum, flags and tensors of every layer; state dict: tensors",
    cannot_tell="state dict: mode, eps and momentum; what the forward code does with the layers",
    sniff=sniff,
    read=read,
)
