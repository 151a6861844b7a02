"""The script for fish."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bn_audit.cli.shells.description import Command, Option

_HEAD = "# Completion of bn-audit for fish: bn-audit completion fish > ~/.config/fish/completions/bn-audit.fish"


def script(commands: Sequence[Command]) -> str:
    """Return the script."""
    root, *rest = commands
    rows = [_HEAD, "complete -c bn-audit -e"]
    rows += [
        f"complete -c bn-audit -n __fish_use_subcommand -f -a {command.name} -d {_quoted(command.help)}"
        for command in rest
    ]
    rows += [_row("__fish_use_subcommand", part) for option in root.options for part in _parts(option)]
    for command in rest:
        condition = _quoted(f"__fish_seen_subcommand_from {command.name}")
        if command.words:
            rows.append(_row(condition, f"-f -a {_quoted(' '.join(command.words))}"))
        elif not command.takes_path:
            rows.append(_row(condition, "-f"))
        rows += [_row(condition, part) for option in command.options for part in _parts(option)]
    return "\n".join(rows) + "\n"


def _row(condition: str, rest: str) -> str:
    return f"complete -c bn-audit -n {condition} {rest}"


def _parts(option: Option) -> Iterator[str]:
    """Yield one definition for each long name; short ones go with the first."""
    long = [name for name in option.names if name.startswith("--")]
    short = [name for name in option.names if not name.startswith("--")]
    values = ""
    if option.value:
        values = (
            f" -x -a {_quoted(' '.join(option.words))}" if option.words else " -r -F" if option.takes_path else " -x"
        )
    for number, name in enumerate(long):
        letters = "".join(f" -s {letter[1:]}" for letter in short) if number == 0 else ""
        yield f"-l {name[2:]}{letters}{values} -d {_quoted(option.help)}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
