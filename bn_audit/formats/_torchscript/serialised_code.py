"""The serialised code of a TorchScript archive, found by qualified name and cut into functions on demand.

``code/__torch__/a/b.py`` holds the classes and functions whose qualified names begin with ``__torch__.a.b.``.

Source: torch/csrc/jit/docs/serialization.md and torch/csrc/jit/serialization/python_print.cpp (printClass,
printFunction).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from bn_audit.containers.archive import Archive
from bn_audit.errors import LimitExceededError, MalformedFileError
from bn_audit.formats._torchscript.operators import INTERESTING
from bn_audit.formats._torchscript.statements import MAX_LINE, Block, blocks

MAX_CODE_BYTES = 24 << 20
"""Cap on all code that is read; the largest traced model seen has 5 MiB."""

MAX_CALL_DEPTH = 60
"""Cap on functions that refer to functions, and on calls within calls."""

_DEFINITION = re.compile(r"^(?:class (\w+)(?:\((\w+)\))?:|def (\w+)\(|  def (\w+)\()", re.MULTILINE)
_REFERENCE = re.compile(r"\b__torch__\.[\w.]+")
_CONSTANT = re.compile(r"^  (\w+) : Final\[.*?\] = (.*)$", re.MULTILINE)
_NAMES = re.compile(r"^  __(parameters|buffers|forward_pre_hooks|forward_hooks)__ = \[(.*)\]$", re.MULTILINE)
_LONGEST_CONSTANT = 1000
_QUOTED = re.compile(r'"([^"]*)"')
_HEADER_END = re.compile(r"\)(?: -> .*)?:$")
_MANGLED = re.compile(r"\b___torch_mangle_\d+\.")


def plain_name(qualified: str) -> str:
    """Return the class name that a qualified TorchScript name stands for, as Python knows it."""
    return _MANGLED.sub("", qualified).removeprefix("__torch__.")


class FunctionCode:
    """One function or method.

    Attributes:
        name: As it is defined.
        text: Its source.
        source: How messages call it.
    """

    def __init__(self, name: str, text: str, source: str) -> None:
        self.name = name
        self.text = text
        self.source = source

    @cached_property
    def parameters(self) -> tuple[tuple[str, ast.expr | None], ...]:
        """Name and default of each parameter, ``self`` included.

        Raises:
            MalformedFileError: the header cannot be parsed.
        """
        header = " ".join(line.strip() for line in self._lines[: self._body_start])
        if len(header) > MAX_LINE:
            raise LimitExceededError(f"{self.source}: the header of {self.name} has {len(header)} characters: not read")
        try:
            definition = ast.parse(f"{header} pass").body[0]
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            raise MalformedFileError(f"{self.source}: the header of {self.name} cannot be read ({error})") from error
        if not isinstance(definition, ast.FunctionDef):
            raise MalformedFileError(f"{self.source}: {self.name} is no function")
        names = [argument.arg for argument in definition.args.args]
        defaults: list[ast.expr] = definition.args.defaults
        padded = [None] * (len(names) - len(defaults)) + defaults
        return tuple(zip(names, padded, strict=True))

    @cached_property
    def body(self) -> Block:
        """Its statements."""
        return blocks(self._lines[self._body_start :], source=self.source)

    @cached_property
    def _lines(self) -> list[str]:
        return self.text.split("\n")

    @cached_property
    def _body_start(self) -> int:
        for index, line in enumerate(self._lines):
            if line.endswith(":") and _HEADER_END.search(line):
                return index + 1
        raise MalformedFileError(f"{self.source}: the header of {self.name} has no end")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCode:
    """One class.

    Attributes:
        is_module: It stands for an ``nn.Module``; other classes are plain objects.
        text: Its source, methods included.
        declared: Names by list: ``parameters``, ``buffers``, ``forward_hooks``, ``forward_pre_hooks``. A list that
            the writer did not print is absent.
        constants: Attributes that scripting made constants, such as ``eps``.
    """

    name: str
    is_module: bool
    text: str
    declared: Mapping[str, tuple[str, ...]]
    constants: Mapping[str, object]
    methods: Mapping[str, FunctionCode]


@dataclass(frozen=True, slots=True)
class _CodeFile:
    classes: Mapping[str, ClassCode]
    functions: Mapping[str, FunctionCode]


class CodeLibrary:
    """All code of one archive; a file is read when something in it is asked for."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._files: dict[str, _CodeFile | None] = {}
        self._interesting: dict[str, bool] = {}
        self._bytes_left = MAX_CODE_BYTES

    def class_code(self, qualified: str) -> ClassCode | None:
        """Return a class by its qualified name; None where the archive holds no code for it.

        Raises:
            ArtifactError: its file is damaged or too large.
        """
        module, _, name = qualified.rpartition(".")
        found = self._file(module)
        return found.classes.get(name) if found else None

    def function(self, qualified: str) -> FunctionCode | None:
        """Return a function, or a method, by its qualified name; None where the archive holds no code for it.

        Raises:
            ArtifactError: its file is damaged or too large.
        """
        module, _, name = qualified.rpartition(".")
        found = self._file(module)
        if found is not None and name in found.functions:
            return found.functions[name]
        owner = self.class_code(module)
        return owner.methods.get(name) if owner else None

    def is_interesting(self, qualified: str, depth: int = 0) -> bool:
        """Return whether a class or function, or a function that it refers to, can normalise or draw random numbers."""
        known = self._interesting.get(qualified)
        if known is None:
            self._interesting[qualified] = False
            code = self.class_code(qualified) or self.function(qualified)
            known = code is not None and (
                INTERESTING.search(code.text) is not None
                or depth > MAX_CALL_DEPTH
                or any(
                    self.is_interesting(name, depth + 1)
                    for name in set(_REFERENCE.findall(code.text))
                    if self.function(name) is not None
                )
            )
            self._interesting[qualified] = known
        return known

    def _file(self, module: str) -> _CodeFile | None:
        if module not in self._files:
            self._files[module] = self._read(module)
        return self._files[module]

    def _read(self, module: str) -> _CodeFile | None:
        member = f"{self._archive.root}code/{module.replace('.', '/')}.py"
        if member not in self._archive:
            return None
        source = f"{self._archive.source.name}: {member}"
        if self._archive.members[member].size > self._bytes_left:
            raise LimitExceededError(f"{source}: the archive holds more than {MAX_CODE_BYTES} bytes of code: not read")
        data = self._archive.read(member, limit=self._bytes_left)
        self._bytes_left -= len(data)
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise MalformedFileError(f"{source}: the code is no text ({error}): the file is corrupt") from error
        return _cut(text, source)


def _cut(text: str, source: str) -> _CodeFile:
    classes: dict[str, ClassCode] = {}
    functions: dict[str, FunctionCode] = {}
    definitions = list(_DEFINITION.finditer(text))
    ends = [match.start() for match in definitions[1:]] + [len(text)]
    index = 0
    while index < len(definitions):
        match, end = definitions[index], ends[index]
        index += 1
        if match[3]:
            functions[match[3]] = FunctionCode(match[3], text[match.start() : end], source)
        elif match[1]:
            methods: dict[str, FunctionCode] = {}
            body_end = end
            while index < len(definitions) and definitions[index][4]:
                method, end = definitions[index], ends[index]
                methods[method[4]] = FunctionCode(method[4], text[method.start() : end], source)
                index += 1
            attributes = text[match.start() : body_end]
            classes[match[1]] = ClassCode(
                name=match[1],
                is_module=match[2] == "Module",
                text=text[match.start() : end],
                declared={item[1]: tuple(_QUOTED.findall(item[2])) for item in _NAMES.finditer(attributes)},
                constants=_constants(attributes) if "Final[" in attributes else {},
                methods=methods,
            )
    return _CodeFile(classes, functions)


def _constants(attributes: str) -> dict[str, object]:
    """Return the constants of a class body whose values are numbers, strings, booleans or None."""
    found: dict[str, object] = {}
    for match in _CONSTANT.finditer(attributes):
        if len(match[2]) > _LONGEST_CONSTANT:
            continue
        try:
            found[match[1]] = ast.literal_eval(match[2])
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError, OverflowError):
            continue
    return found
