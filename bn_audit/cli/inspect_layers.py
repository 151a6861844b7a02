"""``bn-audit inspect``: every norm layer and its tensors, to look at or to export."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from bn_audit.cli.exits import complain, exit_codes
from bn_audit.cli.options import Weights, announce_factories
from bn_audit.cli.streams import to_file, to_stdout
from bn_audit.errors import UsageError

EPILOG = """\b
Examples:
  bn-audit inspect model.pt
  bn-audit inspect model.pt --export layers.h
  bn-audit inspect weights.safetensors --eps 1e-5 --export layers.npz
"""


def inspect_layers(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A file, or package.module:factory.")],
    weights: Weights = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the tensors and the folded scale and shift: .npz, .csv, .json or .h."),
    ] = None,
    eps: Annotated[
        float | None, typer.Option(min=0.0, help="The eps of layers for which the artifact records none.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Let --export overwrite FILE.")] = False,
) -> None:
    """Show every norm layer and its numbers, or export them.

    The table has mode, settings, batches seen, range of the statistics and dead channels. --export writes weight,
    bias, running mean and variance, eps, the layer before it where known, and the folded scale = weight /
    sqrt(var + eps) and shift = bias - mean * scale. A .h is a C99 header.
    """
    with exit_codes():
        if eps is not None and not math.isfinite(eps):
            raise UsageError(f"--eps {eps}: is no variance: use the eps of the model's code, such as 1e-5")
        from bn_audit.audit import read_subject
        from bn_audit.inspection import figures, table
        from bn_audit.inspection.export import require_eps, writer_for

        writer = None if export is None else writer_for(export)
        if export is not None and export.exists() and not force:
            raise UsageError(f"--export {export}: exists already: name another file or add --force")
        announce_factories([target])
        with read_subject(target, weights) as subject:
            layers = [figures.load(norm, eps) for norm in subject.norms]
        if writer is not None and export is not None:
            if not layers:
                raise UsageError(f"{target}: has no batch or instance norms: nothing to export")
            require_eps(layers)
        to_stdout(lambda out, colour: table.render(subject, layers, out, colour))
        if writer is not None and export is not None:
            to_file(export, writer(target, layers, export.name), [target, *([weights] if weights else [])])
            complain(f"wrote {len(layers)} layers to {export}")
