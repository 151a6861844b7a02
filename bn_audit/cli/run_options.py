"""Options of the commands that run models."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bn_audit.cli.exits import complain
from bn_audit.errors import UsageError

if TYPE_CHECKING:
    from bn_audit.options import SweepOptions
    from bn_audit.settings.content import Settings
    from bn_audit.subject.report import Audit, Report

LARGEST_BATCH = 65_536
"""A larger one is a typing error."""

MOST_SIZES = 64

DEVICES = re.compile(r"cpu|cuda(:\d{1,3})?")

DTYPES = ("float32", "float64", "float16", "bfloat16")

RUN = "run"
"""How a report calls a run among what was not checked."""

_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?B)?", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}

Trust = Annotated[
    bool, typer.Option("--trust", help="Run models from files whose loading can run code: pickles, TorchScript, .pt2.")
]
InputsFile = Annotated[
    str | None,
    typer.Option("--inputs", metavar="FILE", help="Real samples: .npz, .npy or .safetensors, an array for each input."),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=DTYPE:SHAPE",
        help="One sample of an input, without the batch axis: x=float32:3x224x224. Repeatable.",
    ),
]
BatchAxis = Annotated[
    int | None, typer.Option("--batch-axis", min=0, metavar="N", help="Axis of the samples, if not the first.")
]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="Where to run: cpu, cuda or cuda:N.")]
Dtype = Annotated[
    str | None, typer.Option("--dtype", metavar="NAME", help=f"Run in this element type: {', '.join(DTYPES)}.")
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, metavar="N", help="Threads of the backend.")]
Seed = Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Every random draw follows from it.")]
TimeLimit = Annotated[float, typer.Option("--time-limit", metavar="SECONDS", help="For running one model.")]
MemoryLimit = Annotated[
    str | None,
    typer.Option("--memory-limit", metavar="SIZE", help="For the process that runs a model: 4GiB (Linux)."),
]


def batch_sizes(text: str) -> tuple[int, ...]:
    """Return the sizes of a list such as ``1,2,8``, ascending, each once.

    Raises:
        UsageError: it holds something else, nothing, or a size below 1.
    """
    form = "give positive numbers with commas between them, such as 1,2,8"
    sizes = set()
    for part in text.split(","):
        if not re.fullmatch(r"\s*[+-]?\d{1,9}\s*", part):
            raise UsageError(f"--batch-sizes {text!r}: {part.strip() or 'nothing'!r} is no batch size: {form}")
        sizes.add(int(part))
    if min(sizes) < 1:
        raise UsageError(f"--batch-sizes {text!r}: there is no batch of {min(sizes)} samples: {form}")
    if max(sizes) > LARGEST_BATCH or len(sizes) > MOST_SIZES:
        raise UsageError(
            f"--batch-sizes {text!r}: {len(sizes)} sizes up to {max(sizes)}, more than the {MOST_SIZES} sizes up to "
            f"{LARGEST_BATCH} that are run: {form}"
        )
    return tuple(sorted(sizes))


def how_to_run(
    sizes: str | None,
    *,
    tier: str,
    inputs: list[str] | None,
    inputs_file: str | None,
    trust: bool,
    batch_axis: int | None = None,
    device: str = "cpu",
    dtype: str | None = None,
    threads: int | None = None,
    seed: int = 0,
    time_limit: float = 600.0,
    memory_limit: str | None = None,
) -> SweepOptions:
    """Return how to run models; without `sizes` at the default ones.

    Raises:
        UsageError: a value is none of its option.
    """
    from bn_audit.options import DEFAULT_BATCH_SIZES, SweepOptions

    if not DEVICES.fullmatch(device):
        raise UsageError(f"--device {device}: unknown, use cpu, cuda or cuda:N such as cuda:0")
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"--dtype {dtype}: no model is run in it, use one of {', '.join(DTYPES)}")
    if not (math.isfinite(time_limit) and time_limit > 0):
        raise UsageError(f"--time-limit {time_limit:g}: no model runs within it, use a positive number of seconds")
    _check_inputs(inputs, inputs_file)
    return SweepOptions(
        batch_sizes=DEFAULT_BATCH_SIZES if sizes is None else batch_sizes(sizes),
        tier=tier,
        inputs=tuple(inputs or ()),
        inputs_file=inputs_file,
        batch_axis=batch_axis,
        device=device,
        dtype=dtype,
        threads=threads,
        seed=seed,
        trust=trust,
        time_limit=time_limit,
        memory_limit=None if memory_limit is None else memory_size(memory_limit),
    )


def _check_inputs(inputs: list[str] | None, inputs_file: str | None) -> None:
    if inputs and inputs_file is not None:
        raise UsageError("--input describes what --inputs FILE already holds: leave one of them out")
    if inputs:
        from bn_audit.sampling.specification import parse_inputs

        parse_inputs(inputs)
    if inputs_file is not None and not Path(inputs_file).is_file():
        raise UsageError(f"--inputs {inputs_file}: there is no such file: name a .npz, .npy or .safetensors file")


def memory_size(text: str) -> int:
    """Return a number of bytes such as ``4GiB``, ``500MB`` or ``1000000``.

    Raises:
        UsageError: it is none.
    """
    found = _MEMORY.fullmatch(text.strip())
    if found is None or len(text) > 30:
        raise UsageError(f"--memory-limit {text}: is no size, use such as 4GiB or 500MB")
    number, unit, kind = found.groups()
    step = 1000 if kind is not None and len(kind) == 1 else 1024
    size = int(float(number) * step ** _POWERS[unit.upper()])
    if size < 1:
        raise UsageError(f"--memory-limit {text}: no model runs within it, use such as 4GiB")
    return size


def requested(running: SweepOptions, sizes: str | None, settings: Settings) -> SweepOptions | None:
    """Return how ``check`` runs every model; None where the command line asks for no run.

    Args:
        running: As the command line says.
        sizes: ``--batch-sizes``, which asks for a run; the settings ask for one of the sources that they name.

    Raises:
        UsageError: options about running where nothing asks for a run.
    """
    from bn_audit.options import SweepOptions

    if sizes is not None:
        return running
    by_settings = any("batch_sizes" in found.values for found in settings.paths)
    if not by_settings and running != SweepOptions(tier=running.tier):
        raise UsageError(
            "--trust, --inputs, --input, --device and the like say how to run a model, and nothing asks for a run: "
            "name the sizes with --batch-sizes 1,2,8, or use bn-audit sweep"
        )
    return None


def unrun(result: Audit, targets: Sequence[str]) -> list[Report]:
    """Return the reports of what a sweep could not run; state dicts that lie in a directory were not meant."""
    return [
        report for report in result.reports if _is_unrun(report) and (_has_code(report) or report.source in targets)
    ]


def _is_unrun(report: Report) -> bool:
    return any(skipped.code == RUN for skipped in report.skipped)


def _has_code(report: Report) -> bool:
    return any(model.form.value != "state-dict" for model in report.models)


def hint_at_trust(result: Audit, *, trust: bool) -> None:
    """Say on stderr how to run what was not run because its file could run code."""
    waiting = [report for report in result.reports if _is_unrun(report) and _has_code(report)]
    if waiting and not trust:
        files, them = ("file was", "it") if len(waiting) == 1 else ("files were", "them")
        complain(
            f"{len(waiting)} {files} not run, since loading {them} can run code: add --trust if you trust the source"
        )
