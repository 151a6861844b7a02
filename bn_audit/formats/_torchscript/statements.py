"""The body of a TorchScript function as blocks of statements.

The printer writes one statement per line and indents by two spaces, so blocks are found without parsing; the text of a
statement is parsed with ``ast`` when it is evaluated. Nothing is ever compiled or run.

Source: torch/csrc/jit/serialization/python_print.cpp (printIf, printLoop, printNode).
"""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from bn_audit.errors import LimitExceededError

MAX_BLOCK_DEPTH = 80
"""Cap on nested blocks; early returns nest one block each, and the deepest model seen has 11."""

MAX_LINE = 256 << 10
"""Longest statement that is parsed, in characters: syntax trees take up to 300 bytes for each."""

CACHED_LENGTH = 200
"""Longest statement whose syntax tree is kept: the short ones recur in every layer."""

_INDENT = 2
_FOR = re.compile(r"for (\w+) in range\((.*)\):$")
_WITH = re.compile(r"with (.*?)(?: as (\w+))?:$")
_DEF = re.compile(r"def (\w+)\(.*\)(?: -> .*)?:$")
_TARGETS = re.compile(r"([A-Za-z_]\w*(?:, [A-Za-z_]\w*)*),? (?::[^=]*)?= ")
_KEYWORD_ATTRIBUTE = re.compile(rf"\.({'|'.join(keyword.kwlist)})\b")
_KEYWORD_PREFIX = "_keyword_attribute_"


@dataclass(frozen=True, slots=True)
class Simple:
    """One line: an assignment, a call or a return."""

    text: str


@dataclass(frozen=True, slots=True)
class Branch:
    """``if``; a branch may be empty."""

    condition: str
    then: Block
    otherwise: Block


@dataclass(frozen=True, slots=True)
class Loop:
    """``for index in range(...)`` or ``while condition``; `index` is empty for the latter."""

    index: str
    body: Block


@dataclass(frozen=True, slots=True)
class Within:
    """The body of a ``with`` statement, and the name it binds, if any."""

    bound: str
    body: Block


@dataclass(frozen=True, slots=True)
class Local:
    """A function defined within a function: the body of a fork."""

    name: str
    body: Block


Statement = Simple | Branch | Loop | Within | Local


@dataclass(frozen=True, slots=True)
class Block:
    """Statements in order, and the names that they assign, nested blocks included."""

    statements: tuple[Statement, ...]
    assigned: frozenset[str]


def blocks(lines: Sequence[str], *, source: str) -> Block:
    """Return the statements of a function body, given as lines with their indentation.

    Raises:
        LimitExceededError: blocks are nested too deeply.
    """
    lines = [line for line in lines if line.strip()]
    block, _end = _block(lines, 0, _depth(lines[0]) if lines else 0, 0, source)
    return block


def parsed(text: str) -> ast.stmt | None:
    """Return the syntax tree of one statement; None where it is none that Python can parse, or is absurdly long."""
    if len(text) <= CACHED_LENGTH:
        return _parsed_short(text)
    return _parsed(text) if len(text) <= MAX_LINE else None


@lru_cache(maxsize=2048)
def _parsed_short(text: str) -> ast.stmt | None:
    return _parsed(text)


def _parsed(text: str) -> ast.stmt | None:
    tree = _parse(text)
    if tree is None and _KEYWORD_ATTRIBUTE.search(text):
        # TorchScript allows attributes such as ``class`` and ``lambda``, the keys of a ModuleDict.
        tree = _parse(_KEYWORD_ATTRIBUTE.sub(rf".{_KEYWORD_PREFIX}\1", text))
    return tree


def attribute_name(name: str) -> str:
    """Return an attribute's name as the module has it."""
    return name.removeprefix(_KEYWORD_PREFIX)


def _parse(text: str) -> ast.stmt | None:
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None
    return body[0] if len(body) == 1 else None


def targets(text: str) -> tuple[str, ...]:
    """Return the names that a line assigns, without parsing it."""
    match = _TARGETS.match(text)
    return tuple(match[1].split(", ")) if match else ()


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _block(lines: Sequence[str], start: int, depth: int, nesting: int, source: str) -> tuple[Block, int]:
    if nesting > MAX_BLOCK_DEPTH:
        raise LimitExceededError(f"{source}: more than {MAX_BLOCK_DEPTH} nested blocks: not read")
    statements: list[Statement] = []
    assigned: set[str] = set()
    index = start
    while index < len(lines) and _depth(lines[index]) >= depth:
        text = lines[index].strip()
        index += 1
        if text == "pass":
            continue
        if not text.endswith(":"):
            statements.append(Simple(text))
            assigned.update(targets(text))
            continue
        inner, index = _block(lines, index, depth + _INDENT, nesting + 1, source)
        assigned |= inner.assigned
        other = Block((), frozenset())
        if text.startswith("if ") and index < len(lines) and lines[index] == " " * depth + "else:":
            other, index = _block(lines, index + 1, depth + _INDENT, nesting + 1, source)
            assigned |= other.assigned
        statements.append(_compound(text, inner, other))
    return Block(tuple(statements), frozenset(assigned)), index


def _compound(text: str, inner: Block, other: Block) -> Statement:
    if text.startswith("if "):
        return Branch(text[3:-1], inner, other)
    if match := _FOR.match(text):
        return Loop(match[1], inner)
    if match := _DEF.match(text):
        return Local(match[1], inner)
    if match := _WITH.match(text):
        return Within(match[2] or "", inner)
    return Loop("", inner)
