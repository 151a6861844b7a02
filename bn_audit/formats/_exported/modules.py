"""Which module makes a call: the stack of modules that torch.export records for each node.

Source: torch 2.13 ``_export/serde/serialize.py``, ``serialize_metadata``: ``key,path,type`` for each module from the
root down, with semicolons between. A second call of the same module has another key and the same path.
"""

from __future__ import annotations

import re

from bn_audit.formats._exported.document import encodable
from bn_audit.subject.subject import ModuleNode

MAX_STACK = 32_000
"""Cap on the length of one stack; fifty nested modules take some 5 000 characters."""

_ROOT = re.compile(r"^(?:L\['self'\]|L__self__|_export_root)\.?")
_GETATTR = re.compile(r"getattr\(([^()]*), '([^'()]*)'\)")
_DEEPEST_GETATTR = 16
_NO_STACK = "_empty_nn_module_stack_from_metadata_hook"


class ModuleStacks:
    """Every module that some call belongs to.

    Attributes:
        types: Qualified class name by path, in the order of the first call, parents first.
    """

    def __init__(self) -> None:
        self.types: dict[str, str] = {}
        self._innermost: dict[str, tuple[str, str] | None] = {}

    def innermost(self, stack: str) -> tuple[str, str] | None:
        """Return path and type of the module at the end of a stack, and note all of them."""
        if stack not in self._innermost:
            self._innermost[stack] = self._read(stack) if len(stack) <= MAX_STACK else None
        return self._innermost[stack]

    def nodes(self) -> tuple[ModuleNode, ...]:
        """Return the modules, parents before children."""
        return tuple(ModuleNode(path=path, type_name=name, training=None) for path, name in self.types.items())

    def _read(self, stack: str) -> tuple[str, str] | None:
        found = None
        for item in encodable(stack).split(";"):
            _, _, rest = item.partition(",")
            path, comma, type_name = rest.rpartition(",")
            if not comma or _NO_STACK in path:
                continue
            path = _plain_path(path)
            self.types.setdefault(path, type_name)
            found = path, type_name
        return found


def _plain_path(path: str) -> str:
    """Return the path as ``named_modules`` has it; the tracer of torch 2.1 and strict mode wrap it."""
    for _ in range(min(path.count("getattr("), _DEEPEST_GETATTR)):
        path = _GETATTR.sub(r"\1.\2", path)
    return _ROOT.sub("", path)
