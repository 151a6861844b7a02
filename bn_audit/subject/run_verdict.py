"""The words in which a run of a model is judged; rules know them without loading what a run is made of."""

from __future__ import annotations

INDEPENDENT, CONTENT, POSITION, SIZE = "independent", "content", "position", "size"
CANNOT_RUN, INCONCLUSIVE = "cannot-run", "inconclusive"
VERDICTS = (INDEPENDENT, CONTENT, POSITION, SIZE, CANNOT_RUN, INCONCLUSIVE)
"""Content: the companions' values matter; position: the row matters; size: only the number of rows matters."""

RNG, STATEFUL, MUTATES_STATE = "rng", "stateful", "mutates-state"
FLAGS = (RNG, STATEFUL, MUTATES_STATE)
"""The answer changes with the random seed; with what ran before; a run changes stored tensors."""

_LIMITS = ("time limit", "memory")
_CRASH = "crashed"


def is_crash(error: str) -> bool:
    """Return whether an error at some batch size says that the backend's process ended."""
    return _CRASH in error.lower()


def is_fault_of_model(error: str) -> bool:
    """Return whether the model itself refuses a batch size, as far as the message tells.

    Time, memory and a backend that crashed are no refusal: what was asked for was not measured.
    """
    return bool(error) and not is_crash(error) and not any(word in error.lower() for word in _LIMITS)
