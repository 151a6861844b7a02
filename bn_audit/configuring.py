"""Settings and the command line put together: what is in force for a run, for one source, and why."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bn_audit.options import Options
from bn_audit.settings.content import PathSettings, Settings

if TYPE_CHECKING:
    from bn_audit.settings.table import InForce

SWEEP_FIELDS = ("batch_sizes", "inputs")
"""Fields of ``Options.sweep`` that settings set."""


def configured(options: Options, settings: Settings, given: Collection[str]) -> Options:
    """Return the options with what the settings say and the command line does not.

    Args:
        options: As the command line gives them.
        given: Fields that the command line really gave; it wins over the general settings and over those for some
            sources alike, but for codes ignored there, which `ignore` of the command line does not bring back.
    """
    if settings.file is None:
        return options
    paths = []
    for found in settings.paths:
        values = {name: value for name, value in found.values.items() if name == "ignore" or name not in given}
        paths.append(replace(found, values=values))
    general = {name: value for name, value in settings.values.items() if name not in given}
    if options.accept_findings:
        general.pop("baseline", None)
    return replace(options, **general, paths=tuple(paths), waivers=settings.waivers, settings=settings.file)


def for_source(options: Options, source: str) -> Options:
    """Return the options for one source: where several tables match, a later one wins, and ignored codes add up."""
    if not options.paths:
        return options
    values: dict[str, Any] = {}
    ignore = options.ignore
    for found in matching(options, source):
        values |= found.values
        ignore = (*ignore, *found.values.get("ignore", ()))
    run = {name: values.pop(name) for name in SWEEP_FIELDS if name in values}
    if options.comparison_only:
        values = {name: value for name, value in values.items() if name not in ("against", "weights")}
    elif options.sweep is not None:
        values["sweep"] = replace(options.sweep, **run)
    elif "batch_sizes" in run:
        values["sweep"] = replace(options.running, **run, tier="quick")
    return replace(options, **{**values, "ignore": ignore})


def matching(options: Options, source: str) -> tuple[PathSettings, ...]:
    """Return what is set for a source, in the order of the file."""
    from bn_audit.subject.source_name import is_match, within  # few runs have settings

    return tuple(found for found in options.paths if is_match(found.path, within(source, found.directory or ".")))


def idle_paths(options: Options, sources: Sequence[str]) -> tuple[PathSettings, ...]:
    """Return what is set for some sources and matches none of these."""
    used = {id(found) for source in sources for found in matching(options, source)}
    return tuple(found for found in options.paths if id(found) not in used)


def in_force(
    options: Options, targets: Sequence[str], settings: Settings, given: Collection[str]
) -> tuple[InForce, ...]:
    """Return what settings can set for all sources, with the origin of each value.

    Args:
        options: As `configured` returns them.
        targets: As given on the command line.
    """
    from bn_audit.settings.keys import GENERAL
    from bn_audit.settings.table import InForce

    def origin(key: str, is_given: bool, is_set: bool) -> str:
        return "command line" if is_given else f"{settings.file}: {key}" if is_set else "default"

    names = tuple(targets or settings.targets)
    told = [InForce(key="targets", value=names, origin=origin("targets", bool(targets), bool(settings.targets)))]
    for key in GENERAL:
        value: object = getattr(options, key.field)
        where = origin(key.name, key.field in given, key.field in settings.values)
        told.append(InForce(key=key.name, value=value, origin=where))
    return tuple(told)


def in_force_for(source: str, options: Options, settings: Settings, given: Collection[str]) -> tuple[InForce, ...]:
    """Return what tables for some sources can set, as it holds for one; for the arguments see `in_force`."""
    from bn_audit.settings.keys import PER_PATH
    from bn_audit.settings.table import InForce

    own = for_source(options, source)
    general = {item.key: item.origin for item in in_force(options, (), settings, given)}
    told = []
    for key in PER_PATH:
        setting = [found for found in matching(options, source) if key.field in found.values]
        tables = [f"{found.origin}: {key.name}" for found in setting]
        if key.field not in SWEEP_FIELDS:
            value: object = getattr(own, key.field)
        elif own.sweep is not None:
            value = getattr(own.sweep, key.field)
        else:
            value = setting[-1].values[key.field] if setting else None
        first = "command line" if key.field in given else general.get(key.name, "default")
        if key.field == "ignore" and tables:
            origin = ", ".join(([] if first == "default" else [first]) + tables)
        else:
            origin = tables[-1] if tables else first
        told.append(InForce(key=key.name, value=value, origin=origin))
    return tuple(told)
