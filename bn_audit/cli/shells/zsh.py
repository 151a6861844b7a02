"""The script for zsh; it works from a file of the fpath and from eval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bn_audit.cli.shells.description import Command, Option

_SCRIPT = """\
#compdef bn-audit
# Completion of bn-audit for zsh. In ~/.zshrc, after compinit: eval "$(bn-audit completion zsh)"
_bn_audit() {{
    local curcontext="$curcontext" state line
    typeset -A opt_args
    local -a commands
    commands=(
{commands}
    )
    _arguments -C \\
{root} \\
        '1: :->command' \\
        '*:: :->rest'
    case $state in
        command) _describe -t commands command commands ;;
        rest)
            case $words[1] in
{cases}
            esac ;;
    esac
}}
if [ "$funcstack[1]" = "_bn_audit" ]; then
    _bn_audit "$@"
else
    compdef _bn_audit bn-audit
fi
"""


def script(commands: Sequence[Command]) -> str:
    """Return the script."""
    root, *rest = commands
    cases = []
    for command in rest:
        specs = [*_options(command), *_arguments(command)]
        rows = " \\\n".join(f"                    {spec}" for spec in specs)
        cases.append(f"                {command.name})\n                    _arguments \\\n{rows} ;;")
    return _SCRIPT.format(
        commands="\n".join(f"        {_quoted(f'{command.name}:{command.help}')}" for command in rest),
        root=" \\\n".join(f"        {spec}" for spec in _options(root)),
        cases="\n".join(cases),
    )


def _options(command: Command) -> Iterator[str]:
    """Yield the ``_arguments`` specifications of the options; other names of one exclude each other."""
    for option in command.options:
        others = "*" if option.repeats else f"({' '.join(option.names)})"
        for name in option.names:
            yield _quoted(f"{others}{name}[{_described(option.help)}]{_value(option)}")


def _value(option: Option) -> str:
    if not option.value:
        return ""
    action = f"({' '.join(option.words)})" if option.words else "_files" if option.takes_path else " "
    return f":{_described(option.value)}:{action}"


def _arguments(command: Command) -> Iterator[str]:
    if command.words:
        yield _quoted(f"*: :({' '.join(command.words)})")
    elif command.takes_path:
        yield _quoted("*:target:_files" if command.takes_many else ":target:_files")


def _described(text: str) -> str:
    for char in ("\\", "[", "]", ":"):
        text = text.replace(char, f"\\{char}")
    return text


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
