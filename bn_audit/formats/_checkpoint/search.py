"""Finds the models in the object graph of an unpickled checkpoint."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from bn_audit.containers.inert import ABSENT, Global, InertDict, Instance
from bn_audit.errors import LimitExceededError
from bn_audit.recognition.tree import join

MAX_VALUES = 2_000_000
"""Cap on the values looked at; the largest checkpoints seen have some ten thousand outside their tensors."""

_OPTIMIZER_KEY = re.compile(r"(?:^|_)(?:optim|optimizer|optimizers|opt|adam|sgd)(?:$|_|s$)", re.IGNORECASE)
_WEIGHT_LEAF = re.compile(
    r"(?:^|[._/])(?:weight|bias|gamma|beta|(?:running|moving|stored)_(?:mean|var|std|covar)|num_batches_tracked)$"
)
_STATISTIC_LEAF = re.compile(r"(?:^|[._/])(?:running|moving|stored)_(?:mean|var)$")

_COMPILED = "torch._dynamo.eval_frame.OptimizedModule"

IsTensor = Callable[[object], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Models of a checkpoint with their routes, in the file's order.

    Attributes:
        modules: (route, instance) of each pickled module that is not part of another one.
        registered: Identities of every module that is registered in one of them.
        state_dicts: (route, mapping) of each state dict.
        has_optimizer_state: True where optimizer state lies in the file.
        other: Qualified names of what else the file holds at its top, for messages.
    """

    modules: tuple[tuple[str, Instance], ...]
    registered: frozenset[int]
    state_dicts: tuple[tuple[str, Mapping[object, object]], ...]
    has_optimizer_state: bool
    other: tuple[str, ...]


def find_models(root: object, is_tensor: IsTensor) -> Found:
    """Return every model reachable from `root`; each object counts once, however often it is referred to.

    Raises:
        LimitExceededError: the object graph is absurdly large.
    """
    modules: list[tuple[str, Instance]] = []
    state_dicts: list[tuple[str, Mapping[object, object]]] = []
    has_optimizer = False
    seen: set[int] = set()
    stack: list[tuple[str, object, bool]] = [("", root, False)]
    while stack:
        route, value, in_optimizer = stack.pop()
        if not isinstance(value, dict | list | tuple | set | frozenset | Instance) or id(value) in seen:
            continue
        seen.add(id(value))
        if len(seen) > MAX_VALUES:
            raise LimitExceededError(f"more than {MAX_VALUES} objects in one checkpoint: not searched for models")
        if module_state(value) is not None and isinstance(value, Instance):
            modules.append((route, value))
            continue
        if _is_optimizer(value):
            has_optimizer = True
            continue
        if is_tensor(value):
            has_optimizer |= in_optimizer
            continue
        is_root = value is root
        if isinstance(value, dict) and _is_state_dict(value, is_tensor, is_root=is_root, is_doubtful=in_optimizer):
            state_dicts.append((route, value))
            in_optimizer = False
        stack.extend(reversed(_inner(route, value, in_optimizer)))
    outermost, registered = _outermost(modules)
    unique = _Routes()
    return Found(
        modules=tuple((unique(route), module) for route, module in outermost),
        registered=registered,
        state_dicts=tuple((unique(route), mapping) for route, mapping in state_dicts),
        has_optimizer_state=has_optimizer,
        other=_names(root),
    )


class _Routes:
    """Gives each model a route of its own: keys with dots or of odd types may lead to the same one."""

    def __init__(self) -> None:
        self._given: dict[str, int] = {}

    def __call__(self, route: str) -> str:
        """Return the route, with a number where it was given before."""
        self._given[route] = self._given.get(route, 0) + 1
        return route if self._given[route] == 1 else f"{route}#{self._given[route]}"


def module_state(value: object) -> dict[object, object] | None:
    """Return the ``__dict__`` of a pickled ``nn.Module`` of whatever class; None for anything else."""
    if not isinstance(value, Instance):
        return None
    if isinstance(value.state, dict) and _is_module_dict(value.state):  # nearly every module
        return value.state
    return next(filter(_is_module_dict, _states(value)), None)


def _is_module_dict(state: dict[object, object]) -> bool:
    return isinstance(state.get("_modules"), dict) and isinstance(state.get("_parameters"), dict)


def children(module: object) -> Iterator[tuple[str, object]]:
    """Yield (name, module) for each registered child of a pickled module; names that are no strings are left out."""
    registered = (module_state(module) or {}).get("_modules")
    if isinstance(registered, dict):
        for name, child in registered.items():
            if isinstance(name, str) and module_state(child) is not None:
                yield name, child


def inner_values(value: object) -> Iterator[tuple[object, object]]:
    """Yield (key, value) for everything a container or object holds directly."""
    if isinstance(value, dict):
        yield from value.items()
    if isinstance(value, list | tuple | set | frozenset):
        yield from enumerate(value)
    if isinstance(value, InertDict) and isinstance(value.state, dict):
        yield from value.state.items()
    if isinstance(value, Instance):
        for state in _states(value):
            yield from state.items()
        yield from enumerate(value.args)
        yield from value.kwargs.items()
        yield from enumerate(value.items)
        yield from value.entries


def _states(value: Instance) -> Iterator[dict[object, object]]:
    """Yield the dicts that could be the ``__dict__`` of an object.

    A (dict, slots) pair comes from objects with slots; ``torch.fx.GraphModule`` passes its ``__dict__`` as an argument,
    and what ``torch.compile`` returns passes the module that it wraps (``OptimizedModule.__reduce__``, torch 2.13).
    """
    if value.state is not ABSENT:
        states = value.state if isinstance(value.state, tuple) else (value.state,)
        yield from (state for state in states if isinstance(state, dict))
    if value.type_name.startswith("torch.fx."):
        yield from (argument for argument in value.args if isinstance(argument, dict))
    if value.type_name == _COMPILED and value.args:
        wrapped = value.args[0]
        state = wrapped.state if isinstance(wrapped, Instance) else None
        training = state.get("training") if isinstance(state, dict) else None
        yield {"training": training, "_parameters": {}, "_buffers": {}, "_modules": {"_orig_mod": wrapped}}


def _inner(route: str, value: object, in_optimizer: bool) -> list[tuple[str, object, bool]]:
    """Return (route, item, does it lie below a key that is called like an optimizer) for each item that may hold more.

    Such a key proves nothing by itself: it may name an optimised model, or the settings of the training.
    """
    inner: list[tuple[str, object, bool]] = []
    for key, item in inner_values(value):
        if isinstance(item, dict | list | tuple | set | frozenset | Instance):
            is_so_called = isinstance(key, str) and _OPTIMIZER_KEY.search(key) is not None
            inner.append((join(route, key), item, in_optimizer or is_so_called))
    return inner


def _is_optimizer(value: object) -> bool:
    if isinstance(value, Instance):
        return value.type_name.startswith("torch.optim.") or any("param_groups" in state for state in _states(value))
    return isinstance(value, dict) and ({"state", "param_groups"} <= value.keys() or "exp_avg_sq" in value)


def _is_state_dict(value: dict[object, object], is_tensor: IsTensor, *, is_root: bool, is_doubtful: bool) -> bool:
    """True for a mapping whose tensors bear the names of parameters, or for a whole file of nothing but tensors.

    A checkpoint dict and the dicts in it may hold single tensors too (a loss, a mean of the data, the score of a
    callback); these make no state dict. Below the key of an optimizer (`is_doubtful`) moments may bear the names of
    parameters: there only metadata or running statistics make one.
    """
    if not all(isinstance(key, str) for key in value):
        return False
    if isinstance(value, InertDict) and isinstance(value.state, dict) and "_metadata" in value.state:
        return True
    tensors = [str(key) for key, item in value.items() if is_tensor(item)]
    if not tensors:
        return False
    if is_doubtful:
        return any(_STATISTIC_LEAF.search(key) for key in tensors)
    return any(_WEIGHT_LEAF.search(key) for key in tensors) or (is_root and len(tensors) == len(value))


def _outermost(modules: list[tuple[str, Instance]]) -> tuple[list[tuple[str, Instance]], frozenset[int]]:
    """Return the modules that are not registered below another one, and the identities of all that are registered.

    Each subtree is walked once, however many of the modules hold it: a list may name every module of a deep chain.
    """
    below: set[int] = set()
    for _route, module in modules:
        pending: list[object] = [] if id(module) in below else [child for _name, child in children(module)]
        while pending:
            current = pending.pop()
            if id(current) not in below and current is not module:
                below.add(id(current))
                pending.extend(child for _name, child in children(current))
    outermost = [(route, module) for route, module in modules if id(module) not in below]
    return outermost, frozenset(below | {id(module) for _route, module in outermost})


def _names(root: object) -> tuple[str, ...]:
    if isinstance(root, Instance):
        return (root.type_name,)
    if isinstance(root, dict):
        return tuple(str(key) for key in list(root)[:8])
    return (root.qualified,) if isinstance(root, Global) else (type(root).__name__,)
