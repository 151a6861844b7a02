"""Memory for tensors that are kept while a model runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


CHUNK_BYTES = 48 << 20
"""Larger than what the C library takes from its heap: kept tensors among short-lived ones would hold that in pieces."""

_ALIGNMENT = 16


class Keeper:
    """Keeps copies of tensors in large pieces of memory."""

    def __init__(self) -> None:
        import torch

        self._chunk = torch.empty(0, dtype=torch.uint8)
        self._used = 0

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a contiguous copy of the tensor on its device."""
        import torch

        needed = tensor.numel() * tensor.element_size()
        if self._used + needed > self._chunk.numel() or self._chunk.device != tensor.device:
            self._chunk = torch.empty(max(CHUNK_BYTES, needed), dtype=torch.uint8, device=tensor.device)
            self._used = 0
        place = self._chunk[self._used : self._used + needed].view(tensor.dtype).view(tensor.shape)
        self._used += -(-needed // _ALIGNMENT) * _ALIGNMENT
        return place.copy_(tensor)
