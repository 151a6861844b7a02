"""Measure the budgets of the static check and of the guard, and print them; exit with 1 where one is missed.

    python -m tests.benchmarks [--rounds 5] [--cache DIR] [--only KIND ...]

Everything is a ratio of two commands run in turns on this machine; the absolute figures are shown, not judged.
This process imports neither torch nor the audit: its own memory would count as theirs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.measure import Cost, compare

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
AUDIT = (sys.executable, "-c", "from bn_audit.__main__ import main; main()")
RIVAL = (sys.executable, str(HERE / "rivals.py"))

MODULE_FACTOR = 8.0
OTHER_FACTOR = 6.0
VERSION_FACTOR = 1.3
TINY_FACTOR = 1.8
GROWTH_FACTOR = 1.3
"""Time on four times the convolution weights: equal but for noise."""

GUARD_SHARE = 0.03
"""Of a forward pass at batch size 1 that a guarded block may add."""

FREE_BYTES = 1 << 20
"""What a check may read beside pickle, headers and batch-norm tensors."""

KINDS = ("module", "state-dict", "torchscript", "exported-program")

_SUFFIXES = {"exported-program": ".pt2"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured budget."""

    what: str
    ours: str
    theirs: str
    result: str
    budget: str
    kept: bool


def main() -> int:
    """Run every measurement; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "bn-audit-benchmarks")
    parser.add_argument("--only", nargs="*", choices=KINDS, default=KINDS, help="artifacts to compare with loading")
    options = parser.parse_args()
    options.cache /= hashlib.sha256((HERE / "networks.py").read_bytes()).hexdigest()[:8]
    options.cache.mkdir(parents=True, exist_ok=True)
    rows = []
    for kind in options.only:
        rows += against_loading(kind, options.cache, options.rounds)
    rows += start_up(options.cache, options.rounds)
    rows += growth(options.cache, options.rounds)
    rows += guarding(options.rounds)
    show(rows)
    return 0 if all(row.kept for row in rows) else 1


def against_loading(kind: str, cache: Path, rounds: int) -> list[Row]:
    """Compare the check of an artifact with loading it, and its bytes read with what they may be."""
    path = artifact(kind, cache)
    ours, theirs = compare(
        [(*AUDIT, "check", str(path)), (*RIVAL, kind, str(path))], rounds=rounds, environment=environment()
    )
    factor = MODULE_FACTOR if kind == "module" else OTHER_FACTOR
    rows = [at_least(f"{kind}: time", factor, ours.seconds, theirs.seconds, "s")]
    if kind == "module":
        rows.append(
            at_least(f"{kind}: peak memory", MODULE_FACTOR, ours.peak_bytes / 2**20, theirs.peak_bytes / 2**20, "MiB")
        )
    return [*rows, bytes_read(kind, path)]


def bytes_read(kind: str, path: Path) -> Row:
    """Compare the bytes read with the pickles, code, headers and batch-norm tensors of the archive, plus 1 MiB."""
    import zipfile

    done = subprocess.run(
        [*AUDIT, "check", str(path), "--format", "json"], env=environment(), capture_output=True, check=False
    )
    report = json.loads(done.stdout)["reports"][0]
    with zipfile.ZipFile(path) as archive:
        text = sum(
            member.compress_size + 2 * len(member.filename) + 100
            for member in archive.infolist()
            if not any(part in member.filename for part in ("/data/", "/constants/", "/weights/weight_"))
        )
        directory = 200 * len(archive.infolist())
    tensors = 4 * sum(
        size
        for norm in report["norms"]
        for tensor in norm["tensors"].values()
        if tensor
        for size in (tensor["shape"] or [2])
    )
    allowed = text + directory + tensors + FREE_BYTES
    return Row(
        what=f"{kind}: bytes read of {report['size_bytes'] / 2**20:.0f} MiB",
        ours=f"{report['bytes_read'] / 2**20:.2f} MiB",
        theirs="",
        result=f"{len(report['norms'])} layers",
        budget=f"<= {allowed / 2**20:.2f} MiB",
        kept=0 < report["bytes_read"] <= allowed and len(report["norms"]) == 155,
    )


def start_up(cache: Path, rounds: int) -> list[Row]:
    """Compare starting the program with a Typer application that prints one table."""
    tiny = artifact("tiny", cache)
    nothing, version, check = compare(
        [(*RIVAL, "nothing"), (*AUDIT, "--version"), (*AUDIT, "check", str(tiny))],
        rounds=3 * rounds,
        environment=environment(),
    )
    return [
        at_most("start-up: --version", VERSION_FACTOR, version, nothing),
        at_most("start-up: check of a tiny file", TINY_FACTOR, check, nothing),
    ]


def growth(cache: Path, rounds: int) -> list[Row]:
    """Compare two networks that differ in the size of their convolutions alone."""
    light, heavy = artifact("small", cache), artifact("small-heavy", cache)
    one, other = compare(
        [(*AUDIT, "check", str(light)), (*AUDIT, "check", str(heavy))], rounds=2 * rounds, environment=environment()
    )
    weights = f"{light.stat().st_size >> 20} to {heavy.stat().st_size >> 20} MiB"
    return [at_most(f"four times the convolution weights ({weights})", GROWTH_FACTOR, other, one)]


def guarding(rounds: int) -> list[Row]:
    """Compare what a guard adds with a forward pass of a network of the size of ResNet-50, at batch size 1."""
    done = subprocess.run(
        [sys.executable, str(HERE / "guarded.py"), str(10 * rounds)], env=environment(), capture_output=True, check=True
    )
    took = json.loads(done.stdout)
    added = {"a block around one pass": took["block"] + took["watching"], "each further pass": took["watching"]}
    return [
        Row(
            what=f"guard: {what}",
            ours=f"{seconds * 1e3:.2f} ms",
            theirs=f"{took['pass'] * 1e3:.1f} ms",
            result=f"{seconds / took['pass']:+.1%}",
            budget=f"<= {GUARD_SHARE:+.0%}",
            kept=seconds <= GUARD_SHARE * took["pass"],
        )
        for what, seconds in added.items()
    ]


def artifact(kind: str, cache: Path) -> Path:
    """Return the artifact of this kind, written on first use by a process of its own."""
    path = cache / f"{kind}{_SUFFIXES.get(kind, '.pt')}"
    if not path.exists():
        Console(stderr=True).print(f"writing {path}")
        part = path.with_name(f"part-{path.name}")
        subprocess.run(
            [sys.executable, "-W", "ignore", str(HERE / "networks.py"), kind, str(part)], env=environment(), check=True
        )
        part.replace(path)
    return path


def environment() -> dict[str, str]:
    """Return an environment in which the audit and the pickled classes are found, for one thread each.

    Both sides start from compiled bytecode, as installed packages do.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": os.pathsep.join((str(ROOT), str(HERE))), "OMP_NUM_THREADS": "1"}


def at_least(what: str, factor: float, ours: float, theirs: float, unit: str) -> Row:
    """Return the row of a budget that asks for a cost `factor` times below the other one."""
    ratio = theirs / ours
    return Row(
        what=what,
        ours=f"{ours:.3g} {unit}",
        theirs=f"{theirs:.3g} {unit}",
        result=f"{ratio:.1f}x less",
        budget=f">= {factor:g}x less",
        kept=ratio >= factor,
    )


def at_most(what: str, factor: float, ours: Cost, theirs: Cost) -> Row:
    """Return the row of a budget that allows `factor` times the other's time."""
    ratio = ours.seconds / theirs.seconds
    return Row(
        what=what,
        ours=f"{ours.seconds:.3f} s",
        theirs=f"{theirs.seconds:.3f} s",
        result=f"{ratio:.2f}x",
        budget=f"<= {factor:g}x",
        kept=ratio <= factor,
    )


def show(rows: list[Row]) -> None:
    """Print the table."""
    table = Table("what", "bn-audit", "against", "result", "budget", "")
    for row in rows:
        verdict = "[green]kept[/]" if row.kept else "[red]MISSED[/]"
        table.add_row(row.what, row.ours, row.theirs, row.result, row.budget, verdict)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
