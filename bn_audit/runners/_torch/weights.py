"""Loads a file's state dict into a module, as ``load_state_dict`` would once the prefixes agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bn_audit.alignment.keys import Side, Spec, align_keys, best_prefixes
from bn_audit.errors import RunError
from bn_audit.runners._torch.arrays import dtype_name
from bn_audit.runners._torch.calling import models_errors
from bn_audit.runners._torch.files import state_dicts

if TYPE_CHECKING:
    import torch


def load_weights(module: torch.nn.Module, path: str, *, trust: bool) -> tuple[str, ...]:
    """Load the state dict that fits best into the module, and return what did not fit, one sentence each.

    Raises:
        RunError: the file cannot be read, or nothing in it fits.
    """
    own = module.state_dict()
    model_side = Side(
        name="the model", tensors={name: _spec(tensor) for name, tensor in own.items() if _is_set(tensor)}
    )
    stored = state_dicts(path, trust=trust)
    if not stored:
        raise RunError(f"{path}: no state dict in it: give the file that holds the model's weights")
    sides = [
        Side(name=path, route=route, tensors={name: _spec(tensor) for name, tensor in tensors.items()})
        for route, tensors in stored
    ]
    fits = [best_prefixes(model_side, side) for side in sides]
    best = max(range(len(sides)), key=lambda index: (fits[index][1], -len(fits[index][0].target), -index))
    alignment = align_keys(model_side, sides[best], expected_by="the model")
    if not alignment.matched:
        raise RunError(
            f"{path}: none of its {len(stored[best][1])} tensors fits the model: check that they belong together"
        )
    with models_errors("loading the weights: "):
        module.load_state_dict(
            {match.reference: stored[best][1][match.target] for match in alignment.matched}, strict=False
        )
    loaded = {match.reference for match in alignment.matched}
    missing = [name for name in model_side.tensors if name not in loaded]
    if not missing:
        return ()
    return (
        f"{len(missing)} of {len(model_side.tensors)} tensors of the model are not in the weights and keep the "
        f"factory's values: {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}",
    )


def _spec(tensor: torch.Tensor) -> Spec:
    return Spec(shape=tuple(tensor.shape), dtype=dtype_name(tensor.dtype))


def _is_set(tensor: object) -> bool:
    import torch
    from torch.nn.parameter import is_lazy

    return isinstance(tensor, torch.Tensor) and not is_lazy(tensor)
