"""The words in which a run of a model is judged; rules know them without loading what a run is made of."""

from __future__ import annotations

INDEPENDENT, CONTENT, POSITION, SIZE = "independent", "content", "position", "size"
CANNOT_RUN, INCONCLUSIVE = "cannot-run", "inconclusive"
VERDICTS = (INDEPENDENT, CONTENT, POSITION, SIZE, CANNOT_RUN, INCONCLUSIVE)
"""Content: the companions' values matter; position: the row matters; size: only the number of rows matters."""

RNG, STATEFUL, MUTATES_STATE = "rng", "stateful", "mutates-state"
FLAGS = (RNG, STATEFUL, MUTATES_STATE)
"""The answer changes with the random seed; with what ran before; a run changes stored tensors."""
