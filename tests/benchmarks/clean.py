"""Sweep clean networks as live modules, in onnxruntime and as exported programs, with 1 and 2 threads.

    python -m tests.benchmarks.clean [--only NAME ...]

Ends with 1 where one of them is accused, at any of the default batch sizes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "sweep"))

from files import FORMATS, measured, written
from judged import observed
from networks import Clean, clean

THREADS = (1, 2)


def main() -> int:
    """Run everything; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.clean", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="these networks")
    only = parser.parse_args().only
    console = Console()
    backends = ("torch", *FORMATS)
    table = Table("network", *(f"{backend}, {threads}" for backend in backends for threads in THREADS))
    accused = 0
    ran = dict.fromkeys(backends, 0)
    with tempfile.TemporaryDirectory() as folder:
        for name, network in clean().items():
            if only and name not in only:
                continue
            cells = []
            for backend in backends:
                said = [_said(network, backend, threads, Path(folder)) for threads in THREADS]
                ran[backend] += all(item == "independent" for item in said)
                accused += sum(item not in ("independent", "") for item in said)
                cells += said
            table.add_row(name, *cells)
    console.print(table)
    console.print(f"independent: {ran}; accused or not run: {accused}")
    return int(accused > 0)


def _said(network: Clean, backend: str, threads: int, folder: Path) -> str:
    """Return the verdict with its flags; ``""`` where the network cannot be exported."""
    if backend == "torch":
        found = observed(network.build(), network, threads=threads)
    elif not network.exports:
        return ""
    else:
        try:
            path = written(network, backend, folder)
        except Exception:  # whatever an exporter raises for a network that it does not take
            return ""
        found = measured(path, backend, threads=threads)
    failed = [size.batch_size for size in found.sizes if size.status != "ok"]
    return "+".join([found.verdict, *found.flags, *(f"fails at {size}" for size in failed)])


if __name__ == "__main__":
    sys.exit(main())
