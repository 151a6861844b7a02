"""What a backend of ONNX models offers to a session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from bn_audit.runners._onnx.loading import Model
from bn_audit.subject.run import Batch, Outputs

Forward: TypeAlias = Callable[[Batch], Outputs]
"""One forward pass of a model that is loaded; raises `RunError` where it fails."""


class Backend(Protocol):
    """A way to run ONNX models."""

    @property
    def name(self) -> str:
        """Name, as the report has it."""
        ...

    @property
    def threads(self) -> int | None:
        """Threads that it was told to use; None for its own choice."""
        ...

    @property
    def environment(self) -> Mapping[str, str]:
        """Versions of what takes part, by name."""
        ...

    def start(self, model: Model, seed: int) -> Forward:
        """Return the model, loaded afresh, with every random generator at `seed`.

        Raises:
            RunError: it cannot be loaded.
            UnsupportedRunError: this backend lacks what it needs; another may have it.
        """
        ...

    def optimised(self) -> Backend | None:
        """Return the backend as it runs models in production; None where there is no other way."""
        ...
