"""Imports and calls a factory; on request without memory for the tensors, where that gives the same model."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bn_audit.errors import FactoryError, UnsupportedFormatError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A model as its factory gives it.

    Attributes:
        remark: How it was built, where that is not the plain way; one clause, ``""`` for nothing to say.
        no_values: Why its values must not be compared; ``""`` where they may. Tensors on the meta device say so
            themselves.
    """

    module: torch.nn.Module
    remark: str = ""
    no_values: str = ""


def build(spec: str) -> Built:
    """Import and call a factory; what it prints goes to stderr, since stdout holds the result.

    Raises:
        FactoryError: it cannot be imported, fails, or gives no ``torch.nn.Module``.
    """
    with _users_code(spec):
        value = _named(spec)
        return Built(module=require_module(value if is_module(value) else _called(value), spec))


def build_without_memory(spec: str) -> Built:
    """Do the same on the meta device, where tensors have shapes and no values.

    A factory that loads weights, or that needs values while it builds, is called again and builds in memory. What it
    builds without loading anything holds initial values, which say nothing about any artifact.

    Raises:
        FactoryError: as `build`.
    """
    import torch

    with _users_code(spec):
        value = _named(spec)
        if is_module(value):
            return Built(module=require_module(value, spec))
        try:
            with _watched(stop=True), torch.device("meta"):
                module = require_module(_called(value), spec)
        except _LoadsWeightsError:
            return Built(module=require_module(_called(value), spec), remark="loads weights: built in memory")
        except (Exception, SystemExit) as error:  # whatever the user's code raises where tensors have no values
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        else:
            on_meta = any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers()))
            return Built(module=module, remark="built on the meta device, without values" if on_meta else "")
        with _watched(stop=False) as watch:
            module = require_module(_called(value), spec)
    initial = "" if watch.loaded else "a factory that loads no weights gives initial values, which say nothing"
    return Built(
        module=module, remark=f"does not build on the meta device ({reason}): built in memory", no_values=initial
    )


def is_module(value: object) -> bool:
    """Return whether this is a ``torch.nn.Module``."""
    import torch

    return isinstance(value, torch.nn.Module)


def require_module(value: object, name: str) -> torch.nn.Module:
    """Return `value`.

    Raises:
        FactoryError: it is no ``torch.nn.Module``.
        UnsupportedFormatError: it is a TorchScript module.
    """
    import torch

    if isinstance(value, torch.jit.ScriptModule):
        raise UnsupportedFormatError(
            f"{name}: this is a TorchScript module, whose code decides its mode: write it with torch.jit.save and "
            "check that file"
        )
    if isinstance(value, torch.nn.Module):
        return value
    raise FactoryError(
        f"{name}: gives a {type(value).__module__}.{type(value).__qualname__}, not a torch.nn.Module: "
        "name a callable that returns the model as production gets it"
    )


@contextlib.contextmanager
def _users_code(spec: str) -> Iterator[None]:
    path_before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (FactoryError, UnsupportedFormatError):
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything; it becomes one clear message
        raise FactoryError(
            f"{spec}: failed with {type(error).__name__}: {error}: check that it runs on its own"
        ) from error
    finally:
        sys.path[:] = path_before


def _named(spec: str) -> object:
    package, _, name = spec.partition(":")
    value: object = importlib.import_module(package)
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _called(value: object) -> object:
    return value() if callable(value) else value


class _LoadsWeightsError(BaseException):
    """Ends a build on the meta device, past any ``except Exception`` of the factory."""


@dataclass(slots=True)
class _Watch:
    loaded: bool = field(default=False)


@contextlib.contextmanager
def _watched(*, stop: bool) -> Iterator[_Watch]:
    """Notice inside the block when real values are loaded into any module.

    A module that copies its own tensors into a part of it (a momentum encoder) loads no weights: on the meta device
    these have no values either.

    Args:
        stop: End the build there.
    """
    import torch

    watch = _Watch()
    original: Callable[..., object] = torch.nn.Module.load_state_dict

    def load_state_dict(module: torch.nn.Module, state: object, *rest: object, **options: object) -> object:
        values = state.values() if isinstance(state, dict) else ()
        if any(isinstance(value, torch.Tensor) and not value.is_meta for value in values):
            watch.loaded = True
            if stop:
                raise _LoadsWeightsError
        return original(module, state, *rest, **options)

    torch.nn.Module.load_state_dict = load_state_dict  # type: ignore[assignment,method-assign]
    try:
        yield watch
    finally:
        torch.nn.Module.load_state_dict = original  # type: ignore[method-assign]
    if stop and watch.loaded:
        raise _LoadsWeightsError
