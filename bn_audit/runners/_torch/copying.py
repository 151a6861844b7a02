"""Gives each run a copy of the model in its own state, without copying the parameters."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bn_audit.errors import UnsupportedRunError
from bn_audit.runners._torch.calling import models_errors, said_errors
from bn_audit.runners._torch.duplicating import duplicate
from bn_audit.runners._torch.state import (
    differing,
    fingerprints,
    held_tensors,
    own_copies,
    plain_parameters,
    restore,
    rewritten,
)
from bn_audit.runners._torch.surroundings import undisturbed

if TYPE_CHECKING:
    import torch


_KEEPS_STATE = re.compile(r"prim::SetAttr|: (?:List|Dict)[\[(].*prim::GetAttr")
"""What TorchScript code does that may change more than tensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """A model in the artifact's state, to be run.

    Attributes:
        changed: Gives the names of stored tensors that differ from the artifact's, by bits.
    """

    module: torch.nn.Module
    changed: Callable[[], tuple[str, ...]]


def _keeps_no_state(module: torch.fx.GraphModule) -> bool:
    """Return whether all parts are PyTorch's own, so that only tensors can change; copying compiles the code anew."""
    return all(type(child).__module__.partition(".")[0] == "torch" for child in module.modules())


class Original:
    """A model whose state no run changes.

    Modules are copied for each run, so that counters in Python start anew too; the copies share the parameters. A run
    that writes into a parameter all the same is noticed by the parameters' bits, after which they are copied as well.
    Programs without state in Python are run themselves, and their tensors are put back.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        import torch

        self.module = module
        self.remarks: list[str] = []
        self._uncopyable = ""
        self._shares = not isinstance(module, torch.jit.ScriptModule)
        self._is_guarded = self._always_saves = False
        self._prints: dict[str, int] | None = None
        self._copies = self._choose()

    def _choose(self) -> bool:
        import torch

        if isinstance(self.module, torch.fx.GraphModule) and _keeps_no_state(self.module):
            return False
        if isinstance(self.module, torch.jit.ScriptModule):
            return _script_keeps_state(self.module)
        self._uncopyable = said_errors(lambda: self.copy(share=True))
        if self._uncopyable:
            self.remarks.append(
                f"the model cannot be copied ({self._uncopyable}): its tensors are put back after each run, what it "
                "keeps in Python objects is not"
            )
        return not self._uncopyable

    def copy(self, *, share: bool) -> torch.nn.Module:
        """Return a copy of the whole module tree, hooks and plain attributes included.

        Args:
            share: Let it have the same parameters.
        """
        import torch
        from torch.nn.parameter import is_lazy

        memo: dict[int, object] = {}
        if not isinstance(self.module, torch.jit.ScriptModule):
            if share:
                memo |= {id(parameter): parameter for parameter in self.module.parameters() if not is_lazy(parameter)}
            memo |= {id(value): replacement for value, replacement in own_copies(self.module)}
        with undisturbed():
            return duplicate(self.module, memo)

    def private_copy(self) -> torch.nn.Module:
        """Return a copy that shares nothing.

        Raises:
            UnsupportedRunError: it cannot be copied.
        """
        if self._uncopyable:
            raise UnsupportedRunError(f"the model cannot be copied: {self._uncopyable}")
        with models_errors("copying the model: "):
            return self.copy(share=False)

    def shared_copy(self) -> torch.nn.Module | None:
        """Return a copy to be changed in other things than its parameters; None where it cannot be copied."""
        return None if self._uncopyable else self.copy(share=self._shares)

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Fresh]:
        """Give the model in its own state, and see to it that it is left so."""
        if self._copies and not self._shares:
            yield self._wholly_copied()
            return
        parameters = plain_parameters(self.module)
        tensors = held_tensors(self.module)
        saved = dict(tensors) if self._copies else _clones(tensors)
        saved_parameters = _clones(parameters) if self._always_saves or not self._is_guarded else {}
        before = self._prints or fingerprints(parameters)
        module = self.copy(share=True) if self._copies else self.module
        known: list[dict[str, int]] = []

        def changed() -> tuple[str, ...]:
            known[:] = [fingerprints(parameters)]
            written = [name for name, found in known[0].items() if found != before[name]]
            replaced = _replaced(parameters, module)
            return (*rewritten(saved, held_tensors(module)), *dict.fromkeys((*written, *replaced)))

        try:
            yield Fresh(module=module, changed=changed)
        finally:
            after = known[0] if known else fingerprints(parameters)
            self._put_back([name for name in parameters if after[name] != before[name]], parameters, saved_parameters)
            self._prints = before
            if not self._copies:
                now = held_tensors(module)
                restore(now, saved, differing(saved, now))
            self._is_guarded = True

    def _wholly_copied(self) -> Fresh:
        before = {**held_tensors(self.module), **plain_parameters(self.module)}
        module = self.copy(share=False)
        return Fresh(
            module=module, changed=lambda: rewritten(before, {**held_tensors(module), **plain_parameters(module)})
        )

    def _put_back(
        self, written: list[str], parameters: Mapping[str, torch.nn.Parameter], saved: Mapping[str, torch.Tensor]
    ) -> None:
        """Undo what a run wrote into parameters, and share them no longer."""
        if not written:
            return
        self._shares = False
        if not saved:
            self.remarks.append(f"a later run changed parameters that the first left alone: {', '.join(written[:3])}")
        for name in written:
            if name in saved:
                parameters[name].data = saved[name]
        self._always_saves = not self._copies


def _clones(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _replaced(parameters: Mapping[str, torch.nn.Parameter], module: torch.nn.Module) -> list[str]:
    """Return the names under which a copy holds another parameter than it was given."""
    now = plain_parameters(module)
    return [name for name, parameter in parameters.items() if now.get(name) is not parameter]


def _script_keeps_state(module: torch.jit.ScriptModule) -> bool:
    """Return whether TorchScript code may change attributes that are no tensors."""
    try:
        text = str(module.inlined_graph)
    except (RuntimeError, AttributeError):  # no method called forward
        return True
    return bool(_KEEPS_STATE.search(text))
