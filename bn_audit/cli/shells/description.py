"""What a shell must know to complete a command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PATHS = frozenset({"FILE", "REFERENCE", "TARGET", "[TARGET]...", "TARGET..."})
"""Metavars whose values are files, or name one among other things."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option.

    Attributes:
        names: ``("--output", "-o")``; of a switch also what turns it off.
        help: One sentence.
        value: Metavar of its value; ``""`` for a switch.
        words: The values to offer.
        takes_path: A value may be a path.
        repeats: It may be given more than once.
    """

    names: tuple[str, ...]
    help: str
    value: str = ""
    words: tuple[str, ...] = ()
    takes_path: bool = False
    repeats: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command.

    Attributes:
        words: The values to offer for its arguments.
        takes_path: An argument may be a path.
        takes_many: It takes more arguments than one.
    """

    name: str
    help: str
    options: tuple[Option, ...]
    words: tuple[str, ...] = ()
    takes_path: bool = False
    takes_many: bool = False


def described(root: Any, words: Mapping[str, tuple[str, ...]]) -> tuple[Command, ...]:
    """Return the commands of a Typer application, itself first, under the name ``""``.

    Args:
        root: The group that ``typer.Context`` gives; untyped, since Typer carries Click in some versions only.
        words: Values to offer beside fixed choices, by the name of an option or the metavar of an argument.
    """
    commands = [_command("", root, words)]
    commands += [_command(name, item, words) for name, item in root.commands.items() if not item.hidden]
    return tuple(commands)


def _command(name: str, item: Any, words: Mapping[str, tuple[str, ...]]) -> Command:
    options = [_option(parameter, words) for parameter in item.params if parameter.param_type_name == "option"]
    arguments = [parameter for parameter in item.params if parameter.param_type_name == "argument"]
    known = [word for parameter in arguments for word in _words(parameter, words)]
    return Command(
        name=name,
        help=item.get_short_help_str(150),
        options=(*options, Option(names=("--help", "-h"), help="Show the help and exit.")),
        words=tuple(known),
        takes_path=any(parameter.metavar in PATHS for parameter in arguments),
        takes_many=len(arguments) > 1 or any(parameter.nargs == -1 for parameter in arguments),
    )


def _option(parameter: Any, words: Mapping[str, tuple[str, ...]]) -> Option:
    return Option(
        names=(*parameter.opts, *parameter.secondary_opts),
        help=parameter.help or "",
        value="" if parameter.is_flag else parameter.metavar or "VALUE",
        words=() if parameter.is_flag else _words(parameter, words),
        takes_path=not parameter.is_flag and parameter.metavar in PATHS,
        repeats=bool(parameter.multiple),
    )


def _words(parameter: Any, words: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    choices = getattr(parameter.type, "choices", None)
    if choices:
        return tuple(str(getattr(choice, "value", choice)) for choice in choices)
    names = [*parameter.opts, (parameter.metavar or "").strip("[]")]
    return next((words[name] for name in names if name in words), ())
