"""Where the programs lie in an archive, in today's layout and in the flat one before it."""

from __future__ import annotations

from bn_audit.containers.archive import Archive

FLAT_PROGRAM = "serialized_exported_program.json"
"""The only program of an archive in the flat layout (torch 2.1 to 2.7)."""


def model_names(archive: Archive) -> list[str]:
    """Return the names of the programs in today's layout; empty for any other archive."""
    if f"{archive.root}archive_format" not in archive:
        return []
    prefix, suffix = f"{archive.root}models/", ".json"
    return [
        name[len(prefix) : -len(suffix)]
        for name in archive.members
        if name.startswith(prefix) and name.endswith(suffix)
    ]
