"""The script for bash, from version 3.2 on, which macOS has: no mapfile, no compopt."""

from __future__ import annotations

from collections.abc import Sequence

from bn_audit.cli.shells.description import Command

_SCRIPT = """\
# Completion of bn-audit for bash. In ~/.bashrc: eval "$(bn-audit completion bash)"
_bn_audit() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD - 1]}}" command="" words="" index
    COMPREPLY=()
    # --option=value comes as three words.
    if [[ $current == "=" ]]; then
        current=""
    elif [[ $previous == "=" && $COMP_CWORD -ge 2 ]]; then
        previous="${{COMP_WORDS[COMP_CWORD - 2]}}"
    fi
    for ((index = 1; index < COMP_CWORD; index++)); do
        case "${{COMP_WORDS[index]}}" in
            {names}) command="${{COMP_WORDS[index]}}"; break ;;
        esac
    done
    case "$command $previous" in
{values}
        *)
            if [[ $current == -* ]]; then
                case "$command" in
{options}
                esac
            else
                case "$command" in
{arguments}
                esac
            fi ;;
    esac
    # Words without spaces; what is left empty is completed with files, as the last line says.
    # shellcheck disable=SC2207
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o bashdefault -o default -F _bn_audit bn-audit
"""


def script(commands: Sequence[Command]) -> str:
    """Return the script."""
    rest = commands[1:]
    values = []
    for command in commands:
        for option in command.options:
            if option.value:
                patterns = "|".join(f'"{command.name} {name}"' for name in option.names)
                values.append(f'        {patterns}) words="{" ".join(option.words)}" ;;')
    options = [_case(item.name, [name for option in item.options for name in option.names]) for item in commands]
    arguments = [_case("", [command.name for command in rest])]
    arguments += [_case(command.name, command.words) for command in rest if command.words]
    return _SCRIPT.format(
        names="|".join(command.name for command in rest),
        values="\n".join(values),
        options="\n".join(options),
        arguments="\n".join(arguments),
    )


def _case(name: str, words: Sequence[str]) -> str:
    return f'                    "{name}") words="{" ".join(words)}" ;;'
