"""The name of a known result: the same in every run, whatever else is found and in whatever order."""

from __future__ import annotations

import json

from bn_audit.subject.finding import Location

LENGTH = 32
"""Hexadecimal digits kept of the SHA-256: 128 bits, which nobody collides by accident."""


def fingerprint(source: str, finding_code: str, location: Location) -> str:
    """Return 32 hexadecimal digits that name one result: this rule, this artifact, this layer, tensor or node.

    Neither message nor severity nor the other results enter, and a node only where no layer is known: exporters number
    nodes anew each time. Two results may share a name, such as two calls of one layer.

    Args:
        source: The artifact, relative to what the reader of the fingerprint knows, with ``/`` between folders.
        location: A place of the finding; ``Location()`` for a finding about the artifact as a whole.
    """
    from hashlib import sha256  # loads OpenSSL, which a plain check does without

    place = location.path or location.node or ""
    canonical = json.dumps(["bn-audit.fingerprint.v1", source, finding_code, location.model, place, location.tensor])
    return sha256(canonical.encode("ascii")).hexdigest()[:LENGTH]
