"""What calls and states in a pickle become: plain values where that is safe and exact, `Instance` everywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bn_audit.containers.inert import InertDict, Instance
from bn_audit.containers.inert_pickle.machine import Machine, StoredBytes

Maker = Callable[[Machine, tuple[object, ...]], object]

NOT_MADE: object = object()
"""What a maker returns for arguments that the real callable's own pickling would not write."""

INSTANCE_COST = 400
"""Estimated bytes of an `Instance` or `InertDict` with its empty containers."""


def call(machine: Machine, function: object, args: object) -> object:
    """Return what REDUCE leaves: the value of a known harmless constructor, else an `Instance`.

    The caller charges `INSTANCE_COST` for it.
    """
    if type(args) is not tuple:
        return Instance(function, (args,))
    maker = machine.makers.get(id(function))
    if maker is not None:
        value = maker(machine, args)
        if value is not NOT_MADE:
            return value
    return Instance(function, args)


def create(machine: Machine, cls: object, args: object, kwargs: object = None) -> object:
    """Return what NEWOBJ and NEWOBJ_EX leave."""
    machine.charge(INSTANCE_COST)
    positional = args if type(args) is tuple else (args,)
    maker = machine.makers.get(id(cls))
    if maker in _DICT_MAKERS and not positional and not kwargs:
        return maker(machine, ())
    return Instance(cls, positional, kwargs if type(kwargs) is dict else None)


def build(machine: Machine, target: object, state: object) -> None:
    """Give `target` its state as BUILD does; targets that cannot have one are left as they are."""
    if isinstance(target, Instance | InertDict):
        if type(target.state) is dict and type(state) is dict:
            machine.charge(100 * (len(target.state) + len(state)))
            state = {**target.state, **state}
        target.state = state


def append(machine: Machine, target: object, values: list[object]) -> None:
    """Add `values` as APPEND, APPENDS and ADDITEMS do."""
    if type(target) is list:
        target.extend(values)
    elif isinstance(target, Instance):
        target.items.extend(values)
    elif type(target) is set:
        machine.charge(100 * len(values))
        target.update(map(machine.key, values))


def assign(machine: Machine, target: object, flat: list[object]) -> None:
    """Set the keys and values that alternate in `flat` as SETITEM and SETITEMS do."""
    if type(target) is dict or type(target) is InertDict:
        machine.fill(target, flat)
    elif isinstance(target, Instance):
        if len(flat) % 2:
            raise machine.malformed("an object has a key without a value")
        machine.charge(50 * len(flat))
        target.entries.extend(zip(flat[::2], flat[1::2], strict=True))


def _dict_maker(type_name: str) -> Maker:
    def make(machine: Machine, args: tuple[object, ...]) -> object:
        made = InertDict(type_name)
        if args and type_name == "collections.defaultdict":
            args = args[1:]
        if not args:
            return made
        if len(args) == 1 and _fill_from(machine, made, args[0]):
            return made
        return NOT_MADE

    return make


def _fill_from(machine: Machine, target: dict[object, object], content: object) -> bool:
    if type(content) is dict or type(content) is InertDict:
        machine.charge(100 * len(content))
        target.update(content)
        return True
    if type(content) not in (list, tuple):
        return False
    flat: list[object] = []
    machine.charge(16 * len(content))  # type: ignore[arg-type]
    for pair in content:  # type: ignore[attr-defined]
        if type(pair) not in (list, tuple) or len(pair) != 2:
            return False
        flat.extend(pair)
    machine.fill(target, flat)
    return True


def _make_dict(machine: Machine, args: tuple[object, ...]) -> object:
    made: dict[object, object] = {}
    return made if not args or (len(args) == 1 and _fill_from(machine, made, args[0])) else NOT_MADE


def _collection_maker(kind: Callable[[Iterable[object]], object], *, hashed: bool) -> Maker:
    def make(machine: Machine, args: tuple[object, ...]) -> object:
        if not args:
            return kind(())
        if len(args) != 1 or type(args[0]) not in (list, tuple):
            return NOT_MADE
        values: list[object] | tuple[object, ...] = args[0]  # type: ignore[assignment]
        machine.charge((100 if hashed else 8) * len(values))
        return kind(map(machine.key, values) if hashed else values)

    return make


def _make_bytes(machine: Machine, args: tuple[object, ...]) -> object:
    """Return what ``_codecs.encode(text, "latin1")`` gives: how protocols 0 to 2 write bytes."""
    if len(args) != 2 or args[1] not in ("latin1", "latin-1"):
        return NOT_MADE
    text = args[0]
    if type(text) is StoredBytes and text.encoding == "utf-8":
        return StoredBytes(text.offset, text.length, "latin-1")
    if type(text) is not str:
        return NOT_MADE
    machine.charge(len(text))
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return NOT_MADE


def _make_empty_bytes(_machine: Machine, args: tuple[object, ...]) -> object:
    return NOT_MADE if args else b""


def _make_bytearray(machine: Machine, args: tuple[object, ...]) -> object:
    if not args:
        return bytearray()
    if len(args) == 1 and type(args[0]) is StoredBytes:
        return args[0]
    content = args[0] if len(args) == 1 else _make_bytes(machine, args)
    if type(content) is not bytes:
        return NOT_MADE
    machine.charge(len(content))
    return bytearray(content)


def _make_complex(_machine: Machine, args: tuple[object, ...]) -> object:
    if len(args) == 2 and type(args[0]) is float and type(args[1]) is float:
        return complex(args[0], args[1])
    return NOT_MADE


def _reconstruct(_machine: Machine, args: tuple[object, ...]) -> object:
    """Return what ``copyreg._reconstructor(cls, base, state)`` stands for: an object of protocols 0 and 1."""
    if len(args) != 3:
        return NOT_MADE
    cls, _base, content = args
    if content is None:
        return Instance(cls, ())
    made = Instance(cls, ())
    if type(content) is dict or type(content) is InertDict:
        _machine.charge(100 * len(content))
        made.entries.extend(content.items())
    elif type(content) is list:
        _machine.charge(8 * len(content))
        made.items.extend(content)
    else:
        made.args = (content,)
    return made


def _newobj(machine: Machine, args: tuple[object, ...]) -> object:
    return create(machine, args[0], args[1:]) if args and len(args) < 100 else NOT_MADE


def _newobj_ex(machine: Machine, args: tuple[object, ...]) -> object:
    return create(machine, *args) if len(args) == 3 else NOT_MADE


_DICTS = {
    (module, name): _dict_maker(f"{module}.{name}")
    for module, name in (
        ("collections", "OrderedDict"),
        ("collections", "defaultdict"),
        ("collections", "Counter"),
    )
}
_DICT_MAKERS = frozenset(_DICTS.values())

MAKERS: dict[tuple[str, str], Maker] = {**_DICTS, ("_codecs", "encode"): _make_bytes}
"""Makers by module and name of the callable they stand for."""

for _module in ("builtins", "__builtin__"):
    MAKERS |= {
        (_module, "set"): _collection_maker(set, hashed=True),
        (_module, "frozenset"): _collection_maker(frozenset, hashed=True),
        (_module, "list"): _collection_maker(list, hashed=False),
        (_module, "tuple"): _collection_maker(tuple, hashed=False),
        (_module, "dict"): _make_dict,
        (_module, "bytes"): _make_empty_bytes,
        (_module, "bytearray"): _make_bytearray,
        (_module, "complex"): _make_complex,
    }
for _module in ("copyreg", "copy_reg"):
    MAKERS |= {
        (_module, "_reconstructor"): _reconstruct,
        (_module, "__newobj__"): _newobj,
        (_module, "__newobj_ex__"): _newobj_ex,
    }
