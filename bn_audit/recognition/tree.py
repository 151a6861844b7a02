"""Walks a module tree, pickled or live: every module, its mode and its norm layers, registered or not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from bn_audit.errors import LimitExceededError
from bn_audit.recognition.aliases import aliases_of
from bn_audit.recognition.description import ModuleDescription
from bn_audit.recognition.modules import mode_of, norm_of_module
from bn_audit.recognition.naming import is_averaged, may_feed
from bn_audit.subject.norm import NormLayer
from bn_audit.subject.subject import Form, Model, ModuleNode
from bn_audit.subject.tensor import TensorRef

MAX_MODULES = 500_000
"""Cap on the modules of one model; the deepest networks seen have some ten thousand."""

MAX_HIDDEN_VALUES = 2_000_000
"""Cap on the containers and objects in plain attributes that are searched for modules, per model: some models carry
their vocabulary or their training data."""

MAX_KEY_CHARACTERS = 512
"""What is shown of one key."""

MAX_PATH_CHARACTERS = 4096
"""Cap on a module path or a route; the longest seen have some two hundred characters."""

_REGISTRY_KEY = re.compile(r"_(?:parameters|buffers|modules|non_persistent_buffers_set)$|.*_hooks(?:_\w+)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleAccess:
    """How to look at the modules of one representation.

    Attributes:
        is_module: Tells a module from any other value.
        children: Returns (name, module) of each registered child.
        attributes: Returns the ``__dict__`` of a module.
        describe: Returns what a module at the given path holds, without its children.
        is_container: Tells a list, dict and the like from an object of some class.
        inner_values: Returns (key, value) of everything that a container or plain object holds directly.
    """

    is_module: Callable[[object], bool]
    children: Callable[[object], Iterator[tuple[str, object]]]
    attributes: Callable[[object], Mapping[object, object]]
    describe: Callable[[object, str], ModuleDescription]
    is_container: Callable[[object], bool]
    inner_values: Callable[[object], Iterator[tuple[object, object]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """What hangs below one module.

    Attributes:
        norms: In the order of ``named_modules()``; those that only plain lists and dicts hold come last.
        apart: (path, module) of the modules that an object of another class holds, such as the copy of an EMA helper
            or the model of a trainer: models of their own, since no list of this model's layers holds them.
    """

    model: Model
    norms: tuple[NormLayer, ...]
    apart: tuple[tuple[str, object], ...]


@dataclass(slots=True)
class _Tree:
    route: str
    access: ModuleAccess
    nodes: list[ModuleNode] = field(default_factory=list)
    tensors: list[TensorRef] = field(default_factory=list)
    own_tensors: dict[str, list[TensorRef]] = field(default_factory=dict)
    gradients: list[bool] = field(default_factory=list)
    norms: dict[int, NormLayer] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    paths: dict[int, str] = field(default_factory=dict)
    repeats: dict[str, list[str]] = field(default_factory=dict)


def descendants(module: object, children: Callable[[object], Iterator[tuple[str, object]]]) -> Iterator[object]:
    """Yield the module and every registered module below it, each once."""
    seen = {id(module)}
    stack = [module]
    while stack:
        current = stack.pop()
        yield current
        for _name, child in children(current):
            if id(child) not in seen:
                seen.add(id(child))
                stack.append(child)


def read_tree(
    root: object,
    *,
    route: str,
    access: ModuleAccess,
    registered: AbstractSet[int],
    excluded: AbstractSet[int] = frozenset(),
) -> Tree:
    """Return the model below `root` and its norm layers.

    Args:
        root: A module.
        route: Where it lies in the artifact.
        access: How to look at it.
        registered: Identities of every module that is registered in any model of the artifact: one of these in a
            plain list is an alias and not hidden.
        excluded: Identities of modules that are left out, with what is below them.

    Raises:
        LimitExceededError: the tree is absurdly large.
    """
    tree = _Tree(route=route, access=access, seen=set(excluded))
    hidden = [(path, value, False) for path, value in reversed(_walk(tree, root, "", is_registered=True))]
    apart: list[tuple[str, object]] = []
    looked_at = 0
    while hidden:
        path, value, in_object = hidden.pop()
        looked_at += 1
        if looked_at > MAX_HIDDEN_VALUES:
            raise LimitExceededError(f"over {MAX_HIDDEN_VALUES} values in plain attributes of one model: not searched")
        if id(value) in tree.seen or id(value) in registered:
            continue
        if not access.is_module(value):
            tree.seen.add(id(value))
            in_object = in_object or not access.is_container(value)
            held = access.inner_values(value)
            inner = [(join(path, key), item) for key, item in held if not isinstance(item, _LEAVES)]
        elif in_object:
            tree.seen.add(id(value))
            apart.append((path, value))
            continue
        else:
            inner = _walk(tree, value, path, is_registered=False)
        hidden.extend((path, item, in_object) for path, item in reversed(inner))
    root_node = tree.nodes[0]
    model = Model(
        route=route,
        form=Form.MODULE,
        type_name=root_node.type_name,
        mode=mode_of(root_node.training),
        modules=tuple(tree.nodes),
        tensors=(*tree.tensors, *_under_other_names(tree)),
        averaged=is_averaged(route, root_node.type_name),
        takes_gradients=any(tree.gradients) if tree.gradients else None,
    )
    norms = tuple(_with_aliases(norm, tree.repeats) for norm in tree.norms.values())
    return Tree(model=model, norms=norms, apart=tuple(apart))


def _under_other_names(tree: _Tree) -> Iterator[TensorRef]:
    """Yield the tensors of modules that are registered again, under their further names, as a state dict has them."""
    for path, refs in tree.own_tensors.items() if tree.repeats else ():
        for alias in aliases_of(path, tree.repeats):
            for ref in refs:
                yield replace(ref, name=join(alias, ref.name[len(path) :].lstrip(".")))


def _with_aliases(norm: NormLayer, repeats: Mapping[str, list[str]]) -> NormLayer:
    aliases = aliases_of(norm.path, repeats) if repeats and norm.registered else ()
    return replace(norm, aliases=aliases) if aliases else norm


def join(route: str, key: object) -> str:
    """Return the path of `key` below `route`.

    A long key, such as a text that a cache is keyed with, is cut; one that is neither text nor a number is ``?``.

    Raises:
        LimitExceededError: the path is absurdly long: the paths of objects nested in each other would take their
            depth squared.
    """
    if isinstance(key, str):
        name = key if len(key) <= MAX_KEY_CHARACTERS else f"{key[:MAX_KEY_CHARACTERS]}…"
    else:
        name = str(key) if isinstance(key, int) and -1 << 63 <= key < 1 << 64 else "?"
    path = f"{route}.{name}" if route else name
    if len(path) > MAX_PATH_CHARACTERS:
        raise LimitExceededError(
            f"objects nested so deeply that a path has {len(path)} characters: not searched for models"
        )
    return path


def _walk(tree: _Tree, root: object, path: str, *, is_registered: bool) -> list[tuple[str, object]]:
    """Collect the registered tree below `root`; return the plain values that may hide further modules."""
    hidden: list[tuple[str, object]] = []
    pending: list[tuple[str, object, str | None]] = [(path, root, None)]
    while pending:
        path, module, preceding = pending.pop()
        if id(module) in tree.seen:
            first = tree.paths.get(id(module))
            if first and is_registered:
                tree.repeats.setdefault(first, []).append(path)
            continue
        tree.seen.add(id(module))
        if is_registered:
            tree.paths[id(module)] = path
        if len(tree.seen) > MAX_MODULES:
            raise LimitExceededError(f"over {MAX_MODULES} modules in one model: not read")
        _visit(tree, module, path, preceding, is_registered=is_registered)
        pending.extend(reversed(list(_children(tree.access, module, path))))
        for key, value in tree.access.attributes(module).items():
            if isinstance(value, _LEAVES) or (isinstance(value, _CONTAINERS) and not value):
                continue
            if isinstance(key, str) and not _REGISTRY_KEY.match(key):
                hidden.append((join(path, key), value))
    return hidden


_LEAVES = (str, bytes, bytearray, int, float, complex, type(None))
_CONTAINERS = (dict, list, tuple, set, frozenset)


def _visit(tree: _Tree, module: object, path: str, preceding: str | None, *, is_registered: bool) -> None:
    description = tree.access.describe(module, path)
    held = [
        tensor for tensor in (*description.parameters.values(), *description.buffers.values()) if tensor is not None
    ]
    unsaved = {join(path, name) for name in description.unsaved_buffers}
    own = [tensor.ref for tensor in held if not tensor.uninitialised and tensor.ref.name not in unsaved]
    if own and is_registered:
        tree.tensors.extend(own)
        tree.own_tensors[path] = own
    tree.gradients.extend(
        tensor.requires_grad
        for tensor in description.parameters.values()
        if tensor is not None and tensor.requires_grad is not None
    )
    training = description.attributes.get("training")
    tree.nodes.append(
        ModuleNode(
            path=path,
            type_name=description.type_name,
            training=training if isinstance(training, bool) else None,
        )
    )
    norm = norm_of_module(description, model=tree.route, path=path, registered=is_registered, preceding=preceding)
    if norm is not None:
        tree.norms[id(module)] = norm


def _children(access: ModuleAccess, module: object, path: str) -> Iterator[tuple[str, object, str | None]]:
    """Yield (path, module, path of the layer that is likely to feed it) for each child.

    Registration order is the order of the constructor; the layer before a norm with as many outputs as the norm has
    channels is nearly always its input.
    """
    previous: tuple[str, object] | None = None
    for name, child in access.children(module):
        child_path = join(path, name)
        attributes = access.attributes(child)
        feeds = previous[0] if previous and may_feed(previous[1], attributes.get("num_features")) else None
        yield child_path, child, feeds
        outputs = attributes.get("out_channels", attributes.get("out_features"))
        previous = (child_path, outputs) if outputs is not None else None
