"""Parts of a model that run below Python: how a guard looks into them.

- TorchScript, and the programs of ``torch.export`` as a module: their operators pass a ``TorchDispatchMode``, which a
  guard switches on for such models alone.
- ``torch.compile``: what was compiled is fixed, and a mode would turn it off. When the part is called, the flags of the
  norm layers inside say what was compiled into it; moved statistics show in any case.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from bn_audit.live.calls import SIGNATURES, NormCall, call_of, comes_from_watched
from bn_audit.live.layers import Layers

if TYPE_CHECKING:
    from torch import nn


def dispatched(layers: Layers, watcher: Callable[[NormCall], None]) -> AbstractContextManager[object]:
    """Return a block in which the operators of this thread are watched, if the model needs that."""
    below = {kind for kind in set(map(type, layers.modules)) if _may_run_below_python(kind)}
    if not any(type(module) in below and _runs_below_python(module) for module in layers.modules):
        return ExitStack()
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            name = func.overloadpacket.__name__
            if name in SIGNATURES and not comes_from_watched(sys._getframe(1)):
                call = call_of(name, args, kwargs or {}, in_python=False)
                if call is not None:
                    watcher(call)
            try:
                return func(*args, **(kwargs or {}))
            except RuntimeError:
                tensors = _as_tensors(func, args)
                if tensors is None:
                    raise
                return func(*tensors, **(kwargs or {}))

    mode: AbstractContextManager[object] = Watching()  # type: ignore[no-untyped-call]
    return mode


@contextmanager
def compiled(layers: Layers, report: Callable[[nn.Module, str], None]) -> Iterator[None]:
    """For the block, have `report` called with each norm layer that a compiled part would run with batch statistics.

    Args:
        report: Takes the layer and its path.
    """
    with ExitStack() as undo:
        for module in layers.modules:
            attribute = _compiled_attribute(module)
            if attribute is not None:
                undo.callback(_intercept(module, attribute, partial(_judge, module, layers, report)))
        yield


def _as_tensors(func: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Return positional arguments with numbers made tensors again where the operator takes nothing else.

    The optimiser of TorchScript runs operators on constants of the graph, such as ``aten::equal``, and the way through
    Python turns those that came from numbers into numbers, which the operator refuses (torch 2.13).

    Returns:
        None where there are none: the operator failed for another reason.
    """
    import torch

    kinds = [str(argument.type) for argument in func._schema.arguments]
    wrong = [kind == "Tensor" and isinstance(value, int | float | complex) for kind, value in zip(kinds, args)]  # noqa: B905
    if not any(wrong):
        return None
    return tuple(torch.tensor(value) if is_wrong else value for value, is_wrong in zip(args, wrong, strict=True))


def _may_run_below_python(kind: type) -> bool:
    import torch

    return issubclass(kind, torch.jit.ScriptModule | torch.fx.GraphModule)


def _runs_below_python(module: nn.Module) -> bool:
    import torch

    return not isinstance(module, torch.fx.GraphModule) or any(
        isinstance(node.target, torch._ops.OpOverload) and node.target.overloadpacket.__name__ in SIGNATURES
        for node in module.graph.nodes
    )


def _compiled_attribute(module: nn.Module) -> str | None:
    """Return the attribute that holds what torch.compile made of a module; None where it is not compiled."""
    if vars(module).get("_compiled_call_impl") is not None:
        return "_compiled_call_impl"
    is_wrapper = type(module).__name__ == "OptimizedModule" and type(module).__module__ == "torch._dynamo.eval_frame"
    return "forward" if is_wrapper else None


def _intercept(module: nn.Module, attribute: str, before: Callable[[], None]) -> Callable[[], None]:
    """Have `before` run at each call of a module's attribute; return what undoes that."""
    values = vars(module)
    original = values[attribute]

    def intercepted(*args: Any, **kwargs: Any) -> Any:
        before()
        return original(*args, **kwargs)

    def undo() -> None:
        if values.get(attribute) is intercepted:
            values[attribute] = original

    values[attribute] = intercepted
    return undo


def _judge(part: nn.Module, layers: Layers, report: Callable[[nn.Module, str], None]) -> None:
    from torch.nn.modules.batchnorm import _BatchNorm

    for module in part.modules():
        uses_batch = isinstance(module, _BatchNorm) and (
            module.training or (module.running_mean is None and module.running_var is None)
        )
        if uses_batch and id(module) in layers.paths:
            report(module, layers.paths[id(module)])
