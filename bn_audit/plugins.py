"""Discovery: every file of a folder gives one constant, or the program fails loudly."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

import bn_audit.experiments
import bn_audit.formats
import bn_audit.reporters
import bn_audit.rules
import bn_audit.runners
from bn_audit.errors import PluginError
from bn_audit.interfaces import Format, Reporter, Rule

if TYPE_CHECKING:
    from bn_audit.running import Experiment, Runner

Plugin = TypeVar("Plugin")


@cache
def formats() -> tuple[Format, ...]:
    """Return every format, by name."""
    return tuple(sorted(_discover(bn_audit.formats, "FORMAT", Format), key=lambda item: item.name))


@cache
def rules() -> tuple[Rule, ...]:
    """Return every rule, by code."""
    return tuple(sorted(_discover(bn_audit.rules, "RULE", Rule), key=lambda item: item.code))


@cache
def reporters() -> tuple[Reporter, ...]:
    """Return every reporter, by name."""
    return tuple(sorted(_discover(bn_audit.reporters, "REPORTER", Reporter), key=lambda item: item.name))


@cache
def runners() -> tuple[Runner, ...]:
    """Return every backend, by rank and name."""
    from bn_audit.running import Runner  # the static check does without it

    return tuple(sorted(_discover(bn_audit.runners, "RUNNER", Runner), key=lambda item: (item.rank, item.name)))


@cache
def experiments() -> tuple[Experiment, ...]:
    """Return every measurement, in the order in which they run."""
    from bn_audit.running import Experiment  # the static check does without it

    return tuple(sorted(_discover(bn_audit.experiments, "EXPERIMENT", Experiment), key=lambda item: item.order))


def _discover(package: ModuleType, constant: str, kind: type[Plugin]) -> list[Plugin]:
    """Return the constant of every module below `package`; names that start with an underscore are no plugins."""
    found = []
    for info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if info.name.rpartition(".")[2].startswith("_"):
            continue
        module = importlib.import_module(info.name)
        if info.ispkg:
            found.extend(_discover(module, constant, kind))
            continue
        plugin = getattr(module, constant, None)
        if not isinstance(plugin, kind):
            raise PluginError(
                f"{info.name} defines no {constant} of type {kind.__name__}: name it or add an underscore"
            )
        found.append(plugin)
    return found
