"""The module tree of a TorchScript archive: ``data.pkl`` holds one object per module, with its attributes as state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bn_audit.containers.inert import Global, Instance
from bn_audit.containers.torch_file.reading import StoredTensor, TorchFile
from bn_audit.errors import LimitExceededError, MalformedFileError
from bn_audit.formats._torchscript.serialised_code import ClassCode, CodeLibrary, plain_name
from bn_audit.recognition.description import HeldTensor, ModuleDescription
from bn_audit.recognition.tree import join

MAX_MODULES = 200_000
"""Cap on the modules of a tree; the largest model seen has some 5000."""

MAX_DEPTH = 200
"""Cap on the nesting of modules; the deepest model seen has 14 levels."""


@dataclass(slots=True, eq=False)
class TreeModule:
    """One module.

    Attributes:
        path: Its first path within the model.
        class_name: Qualified name of its class, as the archive writes it.
        code: Its class; None where the archive holds no code for it.
        state: Its stored attributes by name.
        children: Modules among them, by name.
        parents: Modules that hold it.
        aliases: Further paths at which the very same module is registered.
        interesting: It or a module below it can normalise or draw random numbers.
    """

    path: str
    class_name: str
    code: ClassCode | None
    state: Mapping[object, object]
    children: dict[str, TreeModule] = field(default_factory=dict)
    parents: list[TreeModule] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    interesting: bool = False

    @property
    def type_name(self) -> str:
        """Qualified class name as Python knows it."""
        return plain_name(self.class_name)

    @property
    def training(self) -> bool | None:
        """The stored flag; None where there is none."""
        flag = self.state.get("training")
        return flag if isinstance(flag, bool) else None

    @property
    def settings(self) -> Mapping[object, object]:
        """Plain attributes: the constants of its class, and what is stored and is no tensor, list or module."""
        found: dict[object, object] = {}
        if self.code is not None:
            found.update(self.code.constants)
        for name, value in self.state.items():
            if not isinstance(value, Instance | list | dict | tuple):
                found[name] = value
        return found

    @property
    def is_scripted(self) -> bool:
        """True where scripting left its constants; tracing records none."""
        return self.code is not None and bool(self.code.constants)


class ModuleTree:
    """Every module of the archive.

    Attributes:
        root: The model.
        modules: Every module once, by its first path, parents before children.
    """

    def __init__(self, file: TorchFile, code: CodeLibrary, *, source: str) -> None:
        if not isinstance(file.root, Instance) or not _is_code_class(file.root):
            raise MalformedFileError(
                f"{source}: data.pkl holds no TorchScript module, but {type(file.root).__name__}: the file is corrupt"
            )
        self.modules: dict[str, TreeModule] = {}
        self._code = code
        self._by_object: dict[int, TreeModule] = {}
        self._stored: dict[tuple[str, str], StoredTensor | None] = {}
        self._file = file
        self._source = source
        self.root = self._grow(file.root)
        self._mark_interesting()

    def module_of(self, value: object) -> TreeModule | None:
        """Return the module that an attribute's value is; None where it is something else."""
        return self._by_object.get(id(value))

    def below(self, path: str) -> Iterator[TreeModule]:
        """Yield a module and every module below it, each once."""
        waiting = [self.modules[path]]
        seen = set()
        while waiting:
            module = waiting.pop()
            if module.path not in seen:
                seen.add(module.path)
                yield module
                waiting.extend(module.children.values())

    def stored(self, module: TreeModule, name: str) -> StoredTensor | None:
        """Return a tensor attribute; None where the attribute is none."""
        key = (module.path, name)
        if key not in self._stored:
            value = module.state.get(name)
            is_object = isinstance(value, Instance) and name not in module.children
            self._stored[key] = self._file.tensor(value, join(*key)) if is_object else None
        return self._stored[key]

    def describe(self, module: TreeModule) -> ModuleDescription:
        """Return what a module holds, for recognising norm layers."""
        declared = module.code.declared if module.code else {}
        parameters: dict[str, HeldTensor | None] = dict.fromkeys(declared.get("parameters", ()))
        buffers: dict[str, HeldTensor | None] = dict.fromkeys(declared.get("buffers", ()))
        attributes: dict[object, object] = {}
        if module.code is not None:
            attributes.update(module.code.constants)
        for name, value in module.state.items():
            if not isinstance(name, str) or name in module.children:
                continue
            stored = self.stored(module, name)
            if stored is None:
                if name not in parameters and name not in buffers:
                    attributes[name] = value
                continue
            held = HeldTensor(ref=stored.ref(join(module.path, name)), requires_grad=stored.requires_grad)
            (parameters if name in parameters else buffers)[name] = held
        return ModuleDescription(
            type_name=module.type_name, attributes=attributes, parameters=parameters, buffers=buffers
        )

    def _grow(self, root: Instance) -> TreeModule:
        """Visit every module in the order of ``named_modules()``, without recursion."""
        top = self._module(root, "")
        stack = self._children(top, 0)
        while stack:
            value, name, parent, depth = stack.pop()
            path = join(parent.path, name)
            known = self._by_object.get(id(value))
            if known is None:
                if depth > MAX_DEPTH or len(self.modules) >= MAX_MODULES:
                    raise LimitExceededError(f"{self._source}: more than {MAX_DEPTH} levels or {MAX_MODULES} modules")
                known = self._module(value, path)
                stack.extend(self._children(known, depth))
            else:
                known.aliases.append(path)
            parent.children[name] = known
            known.parents.append(parent)
        return top

    def _children(self, module: TreeModule, depth: int) -> list[tuple[Instance, str, TreeModule, int]]:
        found = [
            (child, name, module, depth + 1)
            for name, child in module.state.items()
            if isinstance(name, str) and isinstance(child, Instance) and self._is_module(child)
        ]
        return found[::-1]

    def _mark_interesting(self) -> None:
        waiting = [module for module in self.modules.values() if self._code.is_interesting(module.class_name)]
        while waiting:
            module = waiting.pop()
            if not module.interesting:
                module.interesting = True
                waiting.extend(module.parents)

    def _is_module(self, value: Instance) -> bool:
        if not _is_code_class(value):
            return False
        code = self._code.class_code(value.type_name)
        return code is not None and code.is_module

    def _module(self, value: Instance, path: str) -> TreeModule:
        state = value.state if isinstance(value.state, dict) else {}
        module = TreeModule(path, value.type_name, self._code.class_code(value.type_name), state)
        self._by_object[id(value)] = module
        self.modules[path] = module
        return module


def _is_code_class(value: Instance) -> bool:
    return isinstance(value.constructor, Global) and value.constructor.module.partition(".")[0] == "__torch__"
