"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from bn_audit.cli.exits import complain
from bn_audit.cli.streams import reserve_stdout
from bn_audit.subject.finding import Intent, Severity

Weights = Annotated[
    str | None,
    typer.Option("--weights", metavar="FILE", help="State dict to load into the factory's model."),
]
IntentOption = Annotated[Intent, typer.Option("--intent", help="What the model is meant for.")]
Select = Annotated[
    list[str] | None,
    typer.Option("--select", metavar="CODES", help="Check only codes that begin so: BN1,BN205."),
]
Ignore = Annotated[
    list[str] | None, typer.Option("--ignore", metavar="CODES", help="Do not check codes that begin so.")
]
FailOn = Annotated[Severity, typer.Option("--fail-on", help="Exit with 1 for findings of this severity or worse.")]
ExitZero = Annotated[bool, typer.Option("--exit-zero", help="Exit with 0 in spite of findings.")]
Format = Annotated[
    str,
    typer.Option(
        "--format", metavar="NAME", help="Report on stdout: text, json, html, sarif, junit, github or markdown."
    ),
]
Output = Annotated[
    list[Path] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write a report to FILE too: .txt, .json, .html, .sarif, .xml (JUnit) or .md. Repeatable.",
    ),
]
Mapping = Annotated[
    list[str] | None,
    typer.Option(
        "--map", metavar="OLD=NEW", help="Rename the reference's tensors: a regular expression and what it becomes."
    ),
]
Frozen = Annotated[
    list[str] | None,
    typer.Option("--frozen", metavar="GLOB", help="Layers claimed frozen: backbone.*; everything below counts."),
]
Values = Annotated[
    Literal["bn", "all"],
    typer.Option("--values", help="bn reads norm layers and what folds and frozen layers need; all reads everything."),
]


def announce_factories(targets: Sequence[str]) -> None:
    """Say on stderr which targets run code, before they do; nothing that they print gets into the report."""
    from bn_audit.expansion import is_factory

    for target in targets:
        if is_factory(target):
            complain(f"{target} is a Python object: importing it runs its code")
            reserve_stdout()


def codes(values: Sequence[str] | None) -> tuple[str, ...]:
    """Return the codes of a repeatable option whose values may be lists: ``--select BN1,BN2 --select BN3``."""
    return tuple(code.strip().upper() for value in values or () for code in value.split(","))
