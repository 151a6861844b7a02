"""The functions through which Python reaches batch norm, watched while a block is guarded.

``nn.BatchNorm``, ``F.batch_norm`` and every subclass end in ``torch.batch_norm``, looked up anew at each call, so that
replacing it in the module ``torch`` sees them all for 0.3 microseconds a call. Hooks would cost more, see no functional
call, and make ``nn.TransformerEncoder`` leave its fast path; a ``TorchDispatchMode`` costs 8 microseconds for each
operator of the network (measured with torch 2.13 on one CPU core), a tenth of a small network's time.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

_MARK = "_bn_audit_watches"
_FRAMES_BETWEEN = 4
"""Most Python frames that torch puts between a call of an operator and a dispatch mode; none in torch 2.13."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NormCall:
    """One call that is about to normalise with statistics of its input.

    Attributes:
        function: Name of what is called.
        input: What is normalised, shape (N, C, ...).
        holders: Running statistics and affine parameters given to the call: they tell whose call it is.
        has_statistics: True where running statistics are among them, or kept elsewhere as by SyncBatchNorm.
        updates: True where the call is one because it moves running statistics, as a tracked InstanceNorm does.
        in_python: False where an operator was seen below Python, whose caller cannot be found.
    """

    function: str
    input: torch.Tensor
    holders: tuple[torch.Tensor, ...]
    has_statistics: bool
    updates: bool = False
    in_python: bool = True


Watcher = Callable[[NormCall], None]
"""Called before the function runs; what it raises, the caller of the function sees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signature:
    """Where a function takes what matters: position and name.

    Attributes:
        flag: None for a function that always uses batch statistics.
        statistics: None for a function that is not given them.
        only_updates: True for a function that normalises each sample for itself, and may move statistics.
    """

    flag: tuple[int, str] | None
    statistics: tuple[int, str] | None
    affine: tuple[tuple[int, str], ...] = ()
    only_updates: bool = False


_STATISTICS: Final = (3, "running_mean")
_AFFINE: Final = ((1, "weight"), (2, "bias"))
_BATCH_NORM: Final = _Signature(flag=(5, "training"), statistics=_STATISTICS, affine=_AFFINE)
SIGNATURES: Final = {
    "batch_norm": _BATCH_NORM,
    "_batch_norm_impl_index": _BATCH_NORM,
    "native_batch_norm": _BATCH_NORM,
    "_native_batch_norm_legit": _BATCH_NORM,
    "cudnn_batch_norm": _BATCH_NORM,
    "miopen_batch_norm": _BATCH_NORM,
    "instance_norm": _Signature(flag=(5, "use_input_stats"), statistics=_STATISTICS, affine=_AFFINE, only_updates=True),
    "batch_norm_stats": _Signature(flag=None, statistics=None),
    "batch_norm_update_stats": _Signature(flag=None, statistics=(1, "running_mean")),
}
"""By name in ``torch`` and in ``torch.ops.aten``; SyncBatchNorm takes its statistics from ``batch_norm_stats``."""

_lock = threading.Lock()
_watchers: tuple[Watcher, ...] = ()
_wrappers: dict[int, Callable[..., Any]] = {}
"""By ``id`` of the function that each wraps. Both live as long as the process: TorchScript knows them by identity."""


def watch(watcher: Watcher) -> None:
    """Have `watcher` called for every call with batch statistics, in any thread, until `unwatch`."""
    global _watchers
    with _lock:
        if not _watchers:
            _install()
        _watchers = (*_watchers, watcher)


def unwatch(watcher: Watcher) -> None:
    """Undo one `watch`; the functions of torch are its own again once nobody watches."""
    global _watchers
    with _lock:
        index = max(place for place, item in enumerate(_watchers) if item is watcher)
        _watchers = (*_watchers[:index], *_watchers[index + 1 :])
        if not _watchers:
            _uninstall()


def call_of(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], *, in_python: bool) -> NormCall | None:
    """Return what a call of the function `name` would do; None where it uses stored statistics, or is no real call."""
    import torch

    signature = SIGNATURES[name]
    value = args[0] if args else kwargs.get("input")
    if not isinstance(value, torch.Tensor) or type(value).__module__.startswith("torch._subclasses"):
        return None  # a proxy, or a tensor without values, on the way into a graph
    if signature.flag is not None and not _given(signature.flag, args, kwargs):
        return None
    mean = _given(signature.statistics, args, kwargs) if signature.statistics is not None else None
    if signature.only_updates and mean is None:
        return None
    given = (mean, *(_given(place, args, kwargs) for place in signature.affine))
    return NormCall(
        function=name,
        input=value,
        holders=tuple(item for item in given if isinstance(item, torch.Tensor)),
        has_statistics=mean is not None or signature.statistics is None,
        updates=signature.only_updates,
        in_python=in_python,
    )


def comes_from_watched(frame: FrameType | None) -> bool:
    """Return whether the operator that is seen below Python is one that a watched function just called."""
    for _ in range(_FRAMES_BETWEEN):
        if frame is None:
            return False
        if frame.f_code.co_name == "watched" and frame.f_globals.get("__name__") == __name__:
            return True
        frame = frame.f_back
    return False


def _given(place: tuple[int, str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    index, name = place
    return args[index] if len(args) > index else kwargs.get(name)


def _install() -> None:
    import torch

    for name in SIGNATURES:
        current = getattr(torch, name, None)
        if current is not None and not hasattr(current, _MARK):
            if id(current) not in _wrappers:
                _wrappers[id(current)] = _watched(name, current)
            setattr(torch, name, _wrappers[id(current)])


def _uninstall() -> None:
    import torch

    for name in SIGNATURES:
        # Where something else was put over ours meanwhile, it stays, and calls ours, which only passes on now.
        original = getattr(getattr(torch, name, None), _MARK, None)
        if original is not None:
            setattr(torch, name, original)


def _watched(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    flag = SIGNATURES[name].flag
    index, keyword = flag if flag is not None else (0, "input")

    def watched(*args: Any, **kwargs: Any) -> Any:
        training = args[index] if len(args) > index else kwargs.get(keyword)
        if training is not False:
            _tell(name, args, kwargs)
        return original(*args, **kwargs)

    functools.update_wrapper(watched, original, assigned=("__name__", "__doc__"))
    setattr(watched, _MARK, original)
    _make_scriptable(name, watched)
    return watched


def _tell(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    import torch

    if torch.compiler.is_compiling():
        return
    call = call_of(name, args, kwargs, in_python=True)
    if call is not None:
        for watcher in reversed(_watchers):
            watcher(call)


def _make_scriptable(name: str, watched: Callable[..., Any]) -> None:
    """Let ``torch.jit.script`` inside a guarded block take the wrapper for the operator that it wraps."""
    import torch.jit._builtins as builtins

    register = getattr(builtins, "_register_builtin", None)
    if register is not None:
        register(watched, f"aten::{name}")
