"""Whose call a norm call is, and whether it normalises activations over the batch.

A functional call names no layer. Its running statistics or affine parameters tell, or else the innermost module whose
method is running: the frames of the calling thread hold it as ``self``. They are looked at only for calls with batch
statistics, so that a clean pass pays nothing.

Two kinds of legitimate layer normalise with ``training=True``. Weight standardisation (timm ``layers/std_conv.py``)
normalises a parameter, reshaped to one row. An InstanceNorm written with ``F.batch_norm`` (MUNIT
``AdaptiveInstanceNorm2d``) folds the samples into the channels, (1, N*C, ...), as does ATen's own, and a LayerNorm can
be written so. Both have one row; a batch of one has, too, so the tensors around the call decide.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePath
from types import FrameType
from typing import TYPE_CHECKING

from bn_audit.live.calls import NormCall
from bn_audit.live.layers import Layers, address
from bn_audit.recognition.modules import INSTANCE_NORM_NAME

if TYPE_CHECKING:
    import torch
    from torch import nn

_NEAREST_FRAMES = 4
"""Frames from the call outwards in which the batch is looked for before it was folded into the channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who made a call.

    Attributes:
        path: Module path; None for a call outside of any module.
        type_name: Class of the module; of the innermost one, where that is not registered in the model.
        registered: False where the innermost module is not part of the model and the path is that of one around it.
        place: File, line and function of a call in user code; ``""`` for torch's own layers.
    """

    path: str | None
    type_name: str
    registered: bool = True
    place: str = ""


def owner_of(call: NormCall, layers: Layers) -> Owner | None:
    """Return who made a call; None where it belongs to another model, or normalises no activations over a batch."""
    if not call.updates and (address(call.input) in layers.parameter_addresses or _is_per_sample(call, layers)):
        return None
    frames = list(_frames())
    running = [module for frame in frames if (module := _self_of(frame)) is not None]
    place = _place(frames[0]) if frames and call.in_python else ""
    holder = _holder(call, layers)
    if holder is not None:
        return Owner(path=layers.paths[id(holder)], type_name=type_name(holder), place=place)
    for module in running:
        if id(module) in layers.paths:
            return Owner(
                path=layers.paths[id(module)],
                type_name=type_name(running[0]),
                registered=running[0] is module,
                place=place,
            )
    return None if running else Owner(path=None, type_name="", place=place)


def _holder(call: NormCall, layers: Layers) -> nn.Module | None:
    """Return the module that holds the statistics or parameters of a call.

    Below Python the tensors are other objects over the same memory.
    """
    wanted = {id(tensor) for tensor in call.holders}
    addresses = {found for tensor in call.holders if (found := address(tensor))} if not call.in_python else set()
    for module in layers.modules if wanted else ():
        for held in (*module._buffers.values(), *module._parameters.values()):
            if held is not None and (id(held) in wanted or (addresses and address(held) in addresses)):
                return module
    return None


def _is_per_sample(call: NormCall, layers: Layers) -> bool:
    """True where the call normalises a parameter that was changed on the way, or each sample for itself."""
    if call.input.dim() < 2 or call.input.shape[0] != 1:
        return False
    if not call.in_python:
        return _holder(call, layers) is None
    module = next((found for frame in _frames() if (found := _self_of(frame)) is not None), None)
    if module is not None and (
        _is_made_of_parameter(call.input, module) or INSTANCE_NORM_NAME.search(type_name(module).lower())
    ):
        return True
    nearest = islice(_frames(), _NEAREST_FRAMES)
    return any(_is_folded(call.input, value) for frame in nearest for value in _tensors(frame))


def _is_made_of_parameter(value: torch.Tensor, module: nn.Module) -> bool:
    """True for what may be a filter bank of this module, scaled or cast: one row for each output channel."""
    return any(
        held is not None and held.dim() > 2 and held.numel() == value.numel() and value.shape[1] == held.shape[0]
        for held in module._parameters.values()
    )


def type_name(module: nn.Module) -> str:
    """Return the name of a module's class; TorchScript keeps that of the class it was made from."""
    return str(getattr(module, "original_name", type(module).__name__))


def _is_folded(value: torch.Tensor, around: torch.Tensor) -> bool:
    """True where each channel of `value` lies within one sample of `around`, whose samples are its rows.

    With a channel for each channel of each sample that holds in any order; with other numbers of them, as a LayerNorm
    or GroupNorm has, it takes the same memory in the same order.
    """
    rows, channels = around.shape[0] if around.dim() > 1 else 1, value.shape[1]
    if rows == 1 or around.numel() != value.numel():
        return False
    if rows * around.shape[1] == channels:
        return True
    is_same = around.is_contiguous() and value.is_contiguous() and around.data_ptr() == value.data_ptr()
    return is_same and channels % rows == 0


def _frames() -> Iterator[FrameType]:
    """Yield the frames of this thread from the call outwards, without those of this package and torch.nn.functional."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith("bn_audit.live") and module != "torch.nn.functional":
            yield frame
        frame = frame.f_back


def _self_of(frame: FrameType) -> nn.Module | None:
    """Return the module whose method a frame runs."""
    from torch import nn

    code = frame.f_code
    if not code.co_argcount:
        return None
    value = frame.f_locals.get(code.co_varnames[0])
    return value if isinstance(value, nn.Module) else None


def _tensors(frame: FrameType) -> list[torch.Tensor]:
    import torch

    return [value for value in frame.f_locals.values() if isinstance(value, torch.Tensor)]


def _place(frame: FrameType) -> str:
    """Return where a call stands; nothing for the code of torch, which is a layer's own."""
    if frame.f_globals.get("__name__", "").startswith("torch."):
        return ""
    code = frame.f_code
    return f"{PurePath(code.co_filename).name}:{frame.f_lineno} in {code.co_name}"
