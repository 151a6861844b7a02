"""Counts the norm and dropout calls of one forward pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bn_audit.runners._torch.layers import norm_layers
from bn_audit.runners._torch.watching import Watch, tensors_of
from bn_audit.runners._torch.whereabouts import Whereabouts
from bn_audit.subject.observation import Place
from bn_audit.subject.run import Calls

if TYPE_CHECKING:
    import torch


_BATCH_NORM = re.compile(r"^(?:aten|quantized)\.\w*batch_norm\w*\.")
_GRADIENT = re.compile(r"backward|stats|elemt")
_DROPOUT = re.compile(r"^aten\.(?:native_dropout|_fused_dropout|bernoulli_?)\.")
_ATTENTION = re.compile(r"^aten\._scaled_dot_product_\w*attention\w*\.")
_DYNAMIC_RANGE = re.compile(r"^quantized\.\w*_dynamic\b|choose_qparams(?!\w*per_token)|quantize_per_tensor_dynamic")
_HALF_DYNAMIC = "fp16"
_FLAG_NAMES = ("training", "train")


@dataclass(slots=True)
class _Count:
    calls: int = 0
    registered: set[str] = field(default_factory=set)
    unregistered: dict[Place, None] = field(default_factory=dict)
    batch_statistics: dict[Place, None] = field(default_factory=dict)
    ungated: dict[Place, None] = field(default_factory=dict)
    dynamic: dict[Place, None] = field(default_factory=dict)


def counted(module: torch.nn.Module, run: Callable[[Callable[..., object], Watch], None]) -> Calls:
    """Return the calls of one run.

    Args:
        run: Runs what it is given inside the watch.
    """
    norms = {path: (child, norm) for path, child, norm in norm_layers(module) if norm.kind.is_batch_norm}
    count = _Count()
    modes = {path: child.training for path, child in module.named_modules() if hasattr(child, "training")}

    def entered(path: str, _child: torch.nn.Module) -> None:
        if path in norms:
            count.calls += 1
            count.registered.add(path)
            _, norm = norms[path]
            if norm.uses_batch_statistics:
                count.batch_statistics[where.place()] = None

    where = Whereabouts(module, on_enter=entered)
    watches_modules = where.has_modules

    def before(func: Any, arguments: Sequence[object]) -> None:
        operator = str(func)
        if _BATCH_NORM.match(operator) and not _GRADIENT.search(operator) and _is_over_batch(arguments):
            place = where.place(operator, list(tensors_of(arguments)))
            owner = next((path for path in reversed((*where.paths(), place.path)) if path in norms), None)
            if owner is None or not watches_modules:
                count.calls += 1
            if owner is None:
                count.unregistered[place] = None
            else:
                count.registered.add(owner)
            if _uses_batch(func, arguments):
                count.batch_statistics[place] = None
        elif _draws(func, operator, arguments) and not _is_gated(where.paths(), modes):
            count.ungated[where.place(operator)] = None
        elif _DYNAMIC_RANGE.search(operator) and _HALF_DYNAMIC not in operator:
            count.dynamic[where.place(operator, list(tensors_of(arguments)))] = None

    watch = Watch(lambda _func, _given, _made: None, before)
    with where.watching() as model:
        run(model, watch)
    return Calls(
        norm_calls=count.calls,
        registered=len(count.registered),
        unregistered=tuple(count.unregistered),
        batch_statistics=_without_repeats(list(count.batch_statistics)),
        ungated_dropout=tuple(count.ungated),
        untrained=_all_initial([norms[path][0] for path in count.registered]),
        dynamic_ranges=tuple(count.dynamic),
    )


def _without_repeats(places: Sequence[Place]) -> tuple[Place, ...]:
    """Return the places without the layers whose operator is among them too."""
    named = {place.path for place in places if place.op}
    return tuple(place for place in places if place.op or place.path not in named)


def _is_over_batch(arguments: Sequence[object]) -> bool:
    """Return whether a batch-norm call sees more than one sample.

    InstanceNorm and weight standardisation call the same operator with one sample of many channels.
    """
    first = next(tensors_of(arguments), None)
    return first is not None and first.ndim > 1 and first.shape[0] > 1


def _uses_batch(func: Any, arguments: Sequence[object]) -> bool:
    """Return whether the call normalises with the statistics of its input."""
    values = _named(func, arguments)
    name = str(func)
    if "no_training" in name or name.startswith("quantized."):
        return False
    flag = next((values[key] for key in _FLAG_NAMES if key in values), "update" in name)
    return bool(flag) or ("running_mean" in values and values["running_mean"] is None)


def _draws(func: Any, operator: str, arguments: Sequence[object]) -> bool:
    """Return whether an operator drops anything at random."""
    values = _named(func, arguments)
    if _DROPOUT.match(operator):
        if values.get("train") is False:
            return False
        share = values.get("p")
        return not isinstance(share, int | float) or 0 < share < 1
    share = values.get("dropout_p") if _ATTENTION.match(operator) else None
    return isinstance(share, int | float) and share > 0


def _named(func: Any, arguments: Sequence[object]) -> Mapping[str, object]:
    return {item.name: value for item, value in zip(func._schema.arguments, arguments, strict=False)}


def _is_gated(paths: Sequence[str], modes: Mapping[str, bool]) -> bool:
    """Return whether the innermost module is in training mode, so that the drawing is what its mode says."""
    return bool(modes.get(paths[-1], False))


def _all_initial(layers: Sequence[torch.nn.Module]) -> bool:
    """Return whether every layer still has mean 0 and variance 1, where there is any with statistics."""
    found = []
    for layer in layers:
        buffers = dict(layer.named_buffers(recurse=False))
        mean, variance = buffers.get("running_mean"), buffers.get("running_var")
        if mean is not None and variance is not None:
            found.append(bool((mean == 0).all()) and bool((variance == 1).all()))
    return bool(found) and all(found)
