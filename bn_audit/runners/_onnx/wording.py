"""What backends say, as one line of a message."""

from __future__ import annotations

import re

LONGEST = 600
"""Characters of a backend's message that are kept; lists of shapes can be endless."""

_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_NODE = re.compile(
    r"Non-zero status code returned while running (\S+) node\. Name:'([^']*)' Status Message: ?", re.DOTALL
)
_PLACE = re.compile(r"(?:/|[A-Za-z]:\\)[^ ]+\.(?:cc|h|cpp|cu):\d+ (?:[^()]*\([^)]*\)(?: const)? )?")
_BARE_PLACE = re.compile(r"\b[\w./]+\.(?:cc|h|cpp|cu):\d+ \w+ ")
_CONDITION = re.compile(r"(?<=: )[^:]{1,200} was false\. (?=\S)")
"""What was tested, in C++, where a sentence in English follows."""


def one_line(error: BaseException) -> str:
    """Return the message of an error without the backend's own source positions, in one line."""
    text = _CODE.sub("", str(error))
    text = _NODE.sub(lambda found: f"{found[1]} node {found[2]!r}: ", text)
    text = _BARE_PLACE.sub("", _PLACE.sub("", text))
    text = _CONDITION.sub("", " ".join(text.split())) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
