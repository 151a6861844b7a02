"""Numbers and modes in words."""

from __future__ import annotations

from bn_audit.subject.norm import Mode

MODE_WORDS = {
    Mode.TRAIN: "train",
    Mode.EVAL: "eval",
    Mode.CALLER: "mode decided by the caller",
    Mode.UNKNOWN: "mode not recorded",
}


def plural(number: int, noun: str) -> str:
    """Return ``1 rule`` or ``2 rules``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size_text(size: int) -> str:
    """Return a size in decimal units, as file managers show it."""
    if size < 1000:
        return f"{size} bytes"
    value = float(size)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} PB"
