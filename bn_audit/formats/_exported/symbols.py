"""Sizes of exported programs as short expressions: ``s77``, ``2*s77``, ``(s27 + 1)//2``.

Source: torch 2.13 ``_export/serde/serialize.py`` (``serialize_sym_int``), which writes SymPy's ``srepr``; up to torch
2.5 it wrote SymPy's ``str``, which is such an expression already.
"""

from __future__ import annotations

import ast

MAX_EXPRESSION = 2000
"""Cap on the length of one expression; sizes of real programs take some hundred characters."""

_INFIX = {"Add": " + ", "Mul": "*", "FloorDiv": "//", "CleanDiv": "//", "Mod": "%", "PythonMod": "%", "Pow": "**"}


def plain_size(size: int | str | None) -> int | str | None:
    """Return a size with a symbolic expression written in short; as it is where it is something else."""
    if not isinstance(size, str) or "(" not in size or len(size) > MAX_EXPRESSION:
        return size
    try:
        short = _short(ast.parse(size, mode="eval").body, outermost=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return size
    return size if short is None else int(short) if short.isdecimal() and len(short) < 19 else short


def _short(tree: ast.expr, *, outermost: bool = False) -> str | None:
    if not isinstance(tree, ast.Call):
        return None
    function = tree.func
    name = (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )
    if name in ("Symbol", "Integer"):
        first = tree.args[0] if tree.args else None
        value = first.value if isinstance(first, ast.Constant) else _negative(first)
        wanted = str if name == "Symbol" else int
        return str(value) if isinstance(value, wanted) else None
    if name not in _INFIX or not tree.args:
        return None
    parts = [_short(argument) for argument in tree.args]
    text = _INFIX[name].join(part or "" for part in parts)
    if None in parts:
        return None
    return text if outermost or name in ("Mul", "Pow") else f"({text})"


def _negative(tree: ast.expr | None) -> int | None:
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub) and isinstance(tree.operand, ast.Constant):
        value = tree.operand.value
        return -value if isinstance(value, int) else None
    return None
