"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from bn_audit.cli.exits import complain

Weights = Annotated[
    str | None,
    typer.Option("--weights", metavar="FILE", help="State dict to load into the factory's model."),
]


def announce_factories(targets: list[str]) -> None:
    """Say on stderr which targets run code, before they do."""
    from bn_audit.expansion import is_factory

    for target in targets:
        if is_factory(target):
            complain(f"{target} is a Python object: importing it runs its code")
