"""The documentation of a rule, part by part."""

from __future__ import annotations

import re
from collections.abc import Iterator

WHAT, WHY, EXAMPLE, REMEDY, LIMITS = "What it checks", "Why it matters", "Example", "Remedy", "Limits"
_LABEL = re.compile(r"([A-Z][A-Za-z ]{2,28}):(.*)", re.DOTALL)


def sections(documentation: str) -> Iterator[tuple[str, str]]:
    """Yield (label, text) of a rule's documentation; the first sentence has the label ``""``, a text is one line.

    The example keeps its lines.
    """
    for paragraph in re.split(r"\n(?=\S)", documentation.strip()):
        match = _LABEL.match(paragraph)
        label, text = (match[1], match[2]) if match else ("", paragraph)
        if label == EXAMPLE and "\n" in text.strip("\n "):
            first, _, rest = text.partition("\n")
            yield label, "\n".join(filter(None, (first.strip(), *(row[4:] for row in rest.rstrip().splitlines()))))
        else:
            yield label, " ".join(text.split())
