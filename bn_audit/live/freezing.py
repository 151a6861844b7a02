"""Batch norms that stay in evaluation through every train().

A frozen layer carries one plain dict, under `_MARK`, with the mode that it would have without the freeze and the
gradients that were stopped. Its class gets a ``train`` that obeys the mark, once for each class. So no object of this
package is in the layer: its type and its state dict are those of any other, its pickle loads where this package is
missing, TorchScript leaves the mark out, and a deep copy is frozen like the original.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from bn_audit.errors import UsageError
from bn_audit.live.selection import Chosen, chosen_norms, listed
from bn_audit.recognition.modules import STATISTIC_NAMES

if TYPE_CHECKING:
    from torch import nn

_MARK = "_bn_audit_frozen"
_MODE, _GRADIENTS = "mode", "requires_grad"
"""Keys of the mark; values of different types, which is what TorchScript takes for no attribute of its own."""

_OBEYS = "_bn_audit_obeys"
_classes = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenNorms:
    """What one call of `freeze_bn` did; used as a context manager, it is undone at the end of the block.

    Attributes:
        paths: Every batch norm that the call chose, whether it or an earlier one froze it, in the order of the model.
        frozen: The layers that this call froze.
        without_gradients: The layers whose gradients it stopped.
    """

    paths: tuple[str, ...]
    frozen: tuple[nn.Module, ...]
    without_gradients: tuple[nn.Module, ...]

    def remove(self) -> None:
        """Undo what this call did: what was frozen before it stays frozen. Once is enough."""
        for layer in self.without_gradients:
            _give_gradients(layer)
        for layer in self.frozen:
            _release(layer)

    def __enter__(self) -> FrozenNorms:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def freeze_bn(model: nn.Module, patterns: Sequence[str] | None = None, *, affine: bool = False) -> FrozenNorms:
    """Put batch norms in evaluation for good and return a handle whose ``remove()`` undoes it.

    Their statistics stand still, and they normalise with them, whatever calls ``train()`` on the model or a part of it.
    Every kind that the audit recognises is caught: SyncBatchNorm, lazy ones, subclasses, hand-written ones, those in
    plain lists. Calling it again changes nothing for layers that are frozen. Deep copies are frozen too; a model
    loaded from a file in another process has its layers in evaluation, and is to be frozen again.

    Args:
        model: A live module, also wrapped (DDP) or compiled.
        patterns: Globs over module paths, as ``--frozen`` takes them: ``backbone.*``; a pattern also matches everything
            below the paths that it matches. None for every batch norm.
        affine: Also stop the gradients of scale and shift.

    A hand-written layer that ignores its ``training`` flag cannot be frozen so; `guard` finds it. Freeze after
    ``convert_sync_batchnorm`` and other changes that replace layers.

    Raises:
        UsageError: `model` is no module; a pattern matches no batch norm; or a layer cannot be frozen, because it keeps
            no running statistics, or is TorchScript.
        ArtifactError: all of the model is TorchScript.
    """
    chosen = chosen_norms(model, patterns, "freeze_bn")
    _require_statistics(chosen)
    frozen = tuple(item.module for item in chosen if _freeze(item.module))
    stopped = tuple(item.module for item in chosen if affine and _stop_gradients(item.module))
    return FrozenNorms(paths=tuple(item.path for item in chosen), frozen=frozen, without_gradients=stopped)


def unfreeze_bn(model: nn.Module, patterns: Sequence[str] | None = None) -> tuple[str, ...]:
    """Undo `freeze_bn`, also on a deep copy, and return the paths of the layers that were frozen.

    Each gets back its gradients, and the mode that it would have if it had never been frozen: its former one, or that
    of the last ``train()`` or ``eval()`` that reached it since.

    Args:
        patterns: As for `freeze_bn`.

    Raises:
        UsageError: `model` is no module, or a pattern matches no batch norm.
        ArtifactError: all of the model is TorchScript.
    """
    chosen = [item for item in chosen_norms(model, patterns, "unfreeze_bn") if _MARK in vars(item.module)]
    for item in chosen:
        _give_gradients(item.module)
        _release(item.module)
    return tuple(item.path for item in chosen)


def _require_statistics(chosen: Sequence[Chosen]) -> None:
    without = [
        item.path for item in chosen if all(getattr(item.module, name, None) is None for name in STATISTIC_NAMES)
    ]
    if without:
        raise UsageError(
            f"freeze_bn: {listed(without)}: no running statistics are kept, so eval() does not freeze them: give "
            "patterns that leave them out, or build them with track_running_stats=True"
        )


def _freeze(layer: nn.Module) -> bool:
    """Mark a layer and put it in evaluation; return whether it was not frozen before."""
    obeyed = _teach(type(layer))
    becomes = getattr(layer, "cls_to_become", None)
    if isinstance(becomes, type):  # what a lazy layer turns into
        _teach(becomes)
    own = vars(layer)
    is_new = _MARK not in own or not obeyed
    mark: dict[str, Any] = {_GRADIENTS: None, **own.get(_MARK, {})}
    former = layer.training if is_new else mark[_MODE]
    own[_MARK] = mark
    layer.train(False)
    mark[_MODE] = former
    return is_new


def _release(layer: nn.Module) -> None:
    mark = vars(layer).pop(_MARK, None)
    if mark is not None:
        layer.train(mark[_MODE])


def _stop_gradients(layer: nn.Module) -> bool:
    mark = vars(layer)[_MARK]
    if mark[_GRADIENTS] is not None:
        return False
    own = dict(layer.named_parameters(recurse=False))
    mark[_GRADIENTS] = {name: parameter.requires_grad for name, parameter in own.items()}
    for parameter in own.values():
        parameter.requires_grad_(False)
    return True


def _give_gradients(layer: nn.Module) -> None:
    mark = vars(layer).get(_MARK)
    if mark is None or mark[_GRADIENTS] is None:
        return
    for name, parameter in layer.named_parameters(recurse=False):
        parameter.requires_grad_(mark[_GRADIENTS].get(name, parameter.requires_grad))
    mark[_GRADIENTS] = None


def _teach(cls: type) -> bool:
    """Give a class a ``train`` that obeys the mark; return whether it had one."""
    with _classes:
        original: Callable[..., Any] = getattr(cls, "train")  # noqa: B009 - of any class
        if getattr(original, _OBEYS, False):
            return True

        @functools.wraps(original)
        def train(self: nn.Module, mode: bool = True) -> Any:
            mark = vars(self).get(_MARK)
            if mark is None:
                return original(self, mode)
            result = original(self, False)
            mark[_MODE] = bool(mode)  # last: an original that calls super().train() comes through here twice
            return result

        setattr(train, _OBEYS, True)
        setattr(cls, "train", train)  # noqa: B010 - of any class
        return False
