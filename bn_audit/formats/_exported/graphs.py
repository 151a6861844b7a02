"""The graphs of an archive, translated when they are looked at: a check without the batch flow never does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bn_audit.formats._exported.document import Json, Reader
from bn_audit.subject.graph import Graph
from bn_audit.subject.tensor import TensorRef

Document = tuple[Reader, Json, Mapping[str, TensorRef]]
"""A program as it was read, and its parameters, buffers and constants by name."""


class Graphs(Mapping[str, Graph]):
    """The graph of each program by the route of its model.

    Raises:
        ArtifactError: on access, where a graph has another structure than it should have.
    """

    def __init__(self, documents: Mapping[str, Document]) -> None:
        self._documents = documents
        self._translated: dict[str, Graph] = {}

    def __getitem__(self, route: str) -> Graph:
        if route not in self._translated:
            from bn_audit.formats._exported.translation import translate  # only where the batch is followed

            self._translated[route] = translate(*self._documents[route])
        return self._translated[route]

    def __iter__(self) -> Iterator[str]:
        return iter(self._documents)

    def __len__(self) -> int:
        return len(self._documents)
