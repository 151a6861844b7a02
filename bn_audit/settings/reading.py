"""From the working directory or ``--config`` to settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bn_audit.errors import UsageError
from bn_audit.settings.content import PathSettings, Settings
from bn_audit.settings.keys import GENERAL, PER_PATH, Key, table, tables, text, texts
from bn_audit.settings.place import Place
from bn_audit.settings.waivers import read_waiver
from bn_audit.subject.source_name import within
from bn_audit.subject.waiver import Waiver

TABLES = ("targets", "waivers", "target", "waiver")
"""Keys of the file that set no single field of ``Options``."""


def read_settings(file: Path, content: Mapping[str, object], codes: Sequence[str]) -> Settings:
    """Return the settings of one file.

    Args:
        content: What stands in ``[tool.bn-audit]``, or at the top of a file of its own.
        codes: The rule codes that there are.

    Raises:
        UsageError: an unknown key or a value that the key cannot have.
    """
    place = Place(file=within(str(file), Path()), directory=file.parent.resolve(), codes=tuple(codes))
    known = [*(key.name for key in GENERAL), *TABLES]
    for name in content:
        if name not in known:
            raise place.unknown(name, known, "key")
    return Settings(
        file=place.file,
        values=_values(content, GENERAL, place),
        targets=tuple(map(place.glob, texts(content.get("targets", []), place.at("targets")))),
        paths=tuple(_path_settings(item, found) for item, found in tables(content.get("target", []), place, "target")),
        waivers=(
            *(read_waiver(item, found) for item, found in tables(content.get("waiver", []), place, "waiver")),
            *_waivers_apart(content.get("waivers", []), place),
        ),
    )


def _values(content: Mapping[str, object], keys: Sequence[Key], place: Place) -> dict[str, object]:
    return {key.field: key.parse(content[key.name], place.at(key.name)) for key in keys if key.name in content}


def _path_settings(content: Mapping[str, object], place: Place) -> PathSettings:
    known = ["path", *(key.name for key in PER_PATH)]
    for name in content:
        if name not in known:
            raise place.unknown(name, known, "key")
    if "path" not in content:
        raise place.wrong('has no path: add path = "..." to say which files it is about')
    return PathSettings(
        path=text(content["path"], place.at("path")),
        directory=str(place.directory),
        values=_values(content, PER_PATH, place),
        origin=str(place),
    )


def _waivers_apart(value: object, place: Place) -> list[Waiver]:
    """Return the waivers of the files that the key ``waivers`` names."""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        raise place.at("waivers").wrong("holds tables: write [[waiver]] for each, or name the files that hold them")
    found: list[Waiver] = []
    for name in texts(value, place.at("waivers")):
        file = place.directory / name
        content = parsed(file, f"{place.at('waivers')}: {name}")
        inner = Place(file=within(str(file), Path()), directory=file.parent.resolve(), codes=place.codes)
        for key in content:
            if key != "waiver":
                raise inner.unknown(key, ["waiver"], "key")
        found += [read_waiver(item, at) for item, at in tables(content.get("waiver", []), inner, "waiver")]
    return found


def parsed(file: Path, name: str) -> Mapping[str, object]:
    """Return a file of TOML.

    Raises:
        UsageError: it is missing, cannot be read or is no TOML.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{name}: cannot be read ({error.strerror or error}): name a file of settings") from error
    return decoded(data, name)


def decoded(data: bytes, name: str) -> Mapping[str, object]:
    """Return the content of a file of TOML.

    Raises:
        UsageError: it is no TOML.
    """
    import tomllib  # few runs have settings

    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name}: is not valid TOML ({error}): correct it") from error


def section(content: Mapping[str, object], name: str) -> Mapping[str, object] | None:
    """Return the table ``[tool.bn-audit]``; None where there is none.

    Raises:
        UsageError: it is something else than a table.
    """
    tool = content.get("tool")
    if not isinstance(tool, dict) or "bn-audit" not in tool:
        return None
    return table(tool["bn-audit"], Place(file=name, directory=Path(), codes=(), key="tool.bn-audit"))
