"""One graph while its layers are read: what they share."""

from __future__ import annotations

from dataclasses import dataclass, field

from bn_audit.containers.source import Source
from bn_audit.formats._onnx.origins import Flow
from bn_audit.formats._onnx.scopes import Scope
from bn_audit.formats._onnx.shapes import Shapes


@dataclass(slots=True, kw_only=True, eq=False)
class Reading:
    """A graph with what was found out about it so far.

    Attributes:
        unfollowed: Nodes whose statistics constants determine in a way that is not followed here.
    """

    source: Source
    scope: Scope
    unfollowed: list[str] = field(default_factory=list)
    _flow: Flow | None = None

    @property
    def flow(self) -> Flow:
        """Where values come from; found when a layer first asks, for most graphs in inference form never do."""
        if self._flow is None:
            self._flow = Flow(Shapes(self.scope))
        return self._flow
