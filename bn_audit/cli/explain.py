"""``bn-audit explain``: the documentation of the rules, offline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from bn_audit.cli.exits import exit_codes
from bn_audit.cli.streams import to_stdout
from bn_audit.errors import UsageError
from bn_audit.styled import Line, line, write
from bn_audit.subject.finding import Intent

if TYPE_CHECKING:
    from bn_audit.interfaces import Rule

EPILOG = """\b
Examples:
  bn-audit explain
  bn-audit explain BN101
"""


def explain(
    code: Annotated[str | None, typer.Argument(metavar="[CODE]", help="Such as BN101; all rules without it.")] = None,
) -> None:
    """Tell why a rule exists and what to do about its findings."""
    with exit_codes():
        from bn_audit import plugins

        lines = _table(plugins.rules()) if code is None else _page(_rule(plugins.rules(), code))
        to_stdout(lambda out, colour: write(lines, out, colour))


def _rule(rules: tuple[Rule, ...], asked: str) -> Rule:
    for rule in rules:
        if asked.upper() == rule.code or asked.lower() == rule.name:
            return rule
    import difflib

    known = [name for rule in rules for name in (rule.code, rule.name)]
    near = difflib.get_close_matches(asked.upper(), known, n=1) or difflib.get_close_matches(asked.lower(), known, n=1)
    hint = f"did you mean {near[0]}?" if near else "run 'bn-audit explain' for the list"
    raise UsageError(f"no rule is called {asked!r}: {hint}")


def _table(rules: tuple[Rule, ...]) -> Iterator[Line]:
    width = max(len(rule.name) for rule in rules)
    for rule in rules:
        cells = (rule.code, "bold"), f"  {rule.severity.value:<7}  {rule.name:<{width}}  {rule.summary}"
        yield line(*cells, hang=width + 18)
    yield line()
    yield line("Severities are those of --intent deploy. bn-audit explain CODE tells more.")


def _page(rule: Rule) -> Iterator[Line]:
    yield line((f"{rule.code} {rule.name}", "bold"))
    yield line()
    for paragraph in rule.documentation.strip().splitlines():
        label, colon, rest = paragraph.partition(":")
        is_heading = bool(colon) and label[:1].isupper() and len(label) < 30
        yield line((label + colon, "bold"), rest) if is_heading else line(paragraph)
    yield line()
    for intent in Intent:
        severity = rule.overrides.get(intent, rule.severity)
        yield line(f"--intent {intent.value:<9} {severity.value}")
    if rule.supersedes:
        yield line(f"Where it fires, these are not reported for the same layer: {', '.join(rule.supersedes)}.")
