"""Which file holds the settings of a run.

As in ruff, the nearest ``pyproject.toml`` upward from the working directory that has a ``[tool.bn-audit]`` table
counts, and it alone: tables are not merged, and a ``pyproject.toml`` without one is passed over. The search ends at the
root of a repository, so that nothing outside it decides about it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bn_audit.settings.content import Settings

FILE_NAME = "pyproject.toml"
MARK = b"bn-audit"
"""A file without these bytes has no such table and need not be parsed."""


def load_settings(config: Path | None, codes: Callable[[], Sequence[str]]) -> Settings:
    """Return the settings that hold in the working directory; empty ones where there are none.

    Args:
        config: A ``pyproject.toml``, or a file with the same keys at its top, to read instead.
        codes: Returns the rule codes that there are; called only where there are settings.

    Raises:
        UsageError: `config` is missing or holds no settings, or a file has an unknown key or a bad value.
    """
    if config is not None:
        return _named(config, codes)
    folder = Path.cwd()
    for parent in (folder, *folder.parents):
        found = _settings_of(parent / FILE_NAME, codes)
        if found is not None:
            return found
        if (parent / ".git").exists():
            break
    return Settings()


def _settings_of(file: Path, codes: Callable[[], Sequence[str]]) -> Settings | None:
    try:
        data = file.read_bytes()
    except OSError:
        return None
    if MARK not in data:
        return None
    from bn_audit.settings.reading import decoded, read_settings, section
    from bn_audit.subject.source_name import within

    name = within(str(file), Path())
    content = section(decoded(data, name), name)
    return None if content is None else read_settings(file, content, codes())


def _named(file: Path, codes: Callable[[], Sequence[str]]) -> Settings:
    from bn_audit.errors import UsageError
    from bn_audit.settings.reading import parsed, read_settings, section

    content = parsed(file, f"--config {file}")
    own = section(content, str(file))
    if own is None and (file.name == FILE_NAME or "tool" in content):
        raise UsageError(f"--config {file}: has no [tool.bn-audit] table: add one, or name a file that has")
    return read_settings(file, content if own is None else own, codes())
